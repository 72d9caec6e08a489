#pragma once
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cajal/atlas/browse.h"
#include "cajal/atlas/live.h"
#include "serve_http.h"

namespace cajal::serve {

/// An atlas, its model where there is one, and the questions that pages may ask of them
/// (docs/serve.md lists the addresses and answers).
class Site {
 public:
  /// `live` may be null; `without` then says why texts cannot be read.
  Site(std::filesystem::path atlas, std::filesystem::path index, std::unique_ptr<atlas::Live> live,
       std::string without);

  void add_to(HttpServer& server);

 private:
  using Request = httplib::Request;
  Json overview(const Request& request);
  Json neurons(const Request& request);
  Json some(const Request& request);
  Json neuron(const Request& request);
  Json words(const Request& request);
  Json live(const Request& request);
  Json follow(const Request& request);

  /// Runs `ask` with a browser that nobody else uses meanwhile.
  template <class Ask>
  Json browse(Ask&& ask);
  /// Runs `ask` unless too many texts wait already.
  template <class Ask>
  Json read(Ask&& ask);

  std::filesystem::path atlas_, index_;
  std::unique_ptr<atlas::Live> live_;
  std::string without_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<atlas::Browser>> browsers_;
  std::atomic<int> reading_ = 0;
};

}  // namespace cajal::serve
