#include "cajal/train/processes.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/error.h"

#ifdef CAJAL_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif
#ifdef CAJAL_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#if defined(CAJAL_GLOO) || defined(CAJAL_NCCL)
#define CAJAL_C10D
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

namespace cajal::train {
namespace {

constexpr int64_t kBucketElements = 4 << 20;  // 16 MiB of fp32

std::optional<int> number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == 0) return std::nullopt;
  int value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  require(error == std::errc() && *end == 0 && value >= 0,
          "environment {}='{}': expected a whole number", name, text);
  return value;
}

std::optional<int> number(const char* name, const char* slurm_name) {
  const auto value = number(name);
  return value ? value : number(slurm_name);
}

}  // namespace

#ifdef CAJAL_C10D
struct Processes::Group {
#if CAJAL_TORCH_AT_LEAST(2, 0)
  using Backend = c10d::Backend;
#else
  using Backend = c10d::ProcessGroup;
#endif
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<Backend> backend;
};

namespace {

c10::intrusive_ptr<Processes::Group::Backend> make_backend(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int count, torch::Device device,
    const std::string& address) {
#ifdef CAJAL_NCCL
  if (device.is_cuda()) return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, count);
#endif
#ifdef CAJAL_GLOO
  require(!device.is_cuda(), "data parallel on GPUs: this build has no NCCL");
  const auto options = c10d::ProcessGroupGloo::Options::create();
  // On one machine nothing should listen to the outside.
  const bool here = address == "localhost" || address.rfind("127.", 0) == 0;
  options->devices.push_back(here ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                  : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, count, options);
#else
  fail("data parallel on {}: this build has NCCL only, for {} at {}", device.str(), rank, address);
#endif
}

}  // namespace

void Processes::sum(torch::Tensor& flat) const {
  if (count_ == 1) return;
  std::vector<c10::intrusive_ptr<c10d::Work>> pending;
  for (int64_t begin = 0; begin < flat.numel(); begin += kBucketElements) {
    std::vector<torch::Tensor> bucket{
        flat.narrow(0, begin, std::min(kBucketElements, flat.numel() - begin))};
    pending.push_back(group_->backend->allreduce(bucket));
  }
  for (auto& work : pending) work->wait();
}

void Processes::share(torch::Tensor& flat) const {
  if (count_ == 1) return;
  std::vector<torch::Tensor> whole{flat};
  group_->backend->broadcast(whole)->wait();
}

#else
struct Processes::Group {};
void Processes::sum(torch::Tensor&) const {}
void Processes::share(torch::Tensor&) const {}
#endif

Processes::Processes() = default;

int Processes::local_rank() { return number("LOCAL_RANK", "SLURM_LOCALID").value_or(0); }

Processes Processes::from_environment([[maybe_unused]] torch::Device device) {
  Processes out;
  out.count_ = number("WORLD_SIZE", "SLURM_NTASKS").value_or(1);
  require(out.count_ > 0, "environment WORLD_SIZE: expected at least 1 process");
  if (out.count_ == 1) return out;
  const auto rank = number("RANK", "SLURM_PROCID");
  require(rank && *rank < out.count_, "environment RANK: expected a number below {}", out.count_);
  out.rank_ = *rank;
  const char* address = std::getenv("MASTER_ADDR");
  require(address != nullptr && *address != 0,
          "environment MASTER_ADDR: expected the address of process 0 of {}", out.count_);
#ifdef CAJAL_C10D
  const int port = number("MASTER_PORT").value_or(29500);
  require(port > 0 && port < 65536, "environment MASTER_PORT: {} is no port", port);
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = out.rank_ == 0;
  options.numWorkers = static_cast<size_t>(out.count_);
  out.group_ = std::make_shared<Group>();
  try {
    out.group_->store = c10::make_intrusive<c10d::TCPStore>(address, options);
    out.group_->backend = make_backend(out.group_->store, out.rank_, out.count_, device, address);
  } catch (const c10::Error& error) {
    fail("could not meet the other {} processes at {}:{}: {}", out.count_ - 1, address, port,
         error.what_without_backtrace());
  }
  return out;
#else
  fail("WORLD_SIZE is {}, but this build has neither Gloo (libgloo-dev) nor NCCL", out.count_);
#endif
}

bool Processes::any(bool here) const {
  if (count_ == 1) return here;
  auto votes = torch::full({1}, here ? 1.f : 0.f);
#ifdef CAJAL_NCCL
  if (torch::cuda::is_available()) votes = votes.cuda();
#endif
  sum(votes);
  return votes.item<float>() > 0;
}

}  // namespace cajal::train
