#include "cajal/data/checksum.h"

#include "cajal/core/error.h"

#ifdef CAJAL_CRYPTO
#include <openssl/evp.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>
#endif

namespace cajal::data {

#ifdef CAJAL_CRYPTO

namespace {

class Hash {
 public:
  explicit Hash(Digest digest) : context_(EVP_MD_CTX_new()) {
    const auto* kind = digest == Digest::md5 ? EVP_md5() : EVP_sha256();
    require(context_ && EVP_DigestInit_ex(context_.get(), kind, nullptr) == 1,
            "libcrypto offers no {} here", digest == Digest::md5 ? "MD5" : "SHA-256");
  }

  void add(const void* bytes, size_t count) {
    require(EVP_DigestUpdate(context_.get(), bytes, count) == 1, "libcrypto failed to hash");
  }

  std::string hexadecimal() {
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    require(EVP_DigestFinal_ex(context_.get(), value, &size) == 1, "libcrypto failed to hash");
    std::string out;
    for (unsigned int i = 0; i < size; ++i) out += fmt::format("{:02x}", value[i]);
    return out;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace

std::string checksum(const std::filesystem::path& path, Digest digest) {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  require(file != nullptr, "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  Hash hash(digest);
  std::vector<char> piece(size_t{1} << 20);
  while (const size_t got = std::fread(piece.data(), 1, piece.size(), file.get()))
    hash.add(piece.data(), got);
  require(!std::ferror(file.get()), "{}: cannot be read: {}", path.string(), std::strerror(errno));
  return hash.hexadecimal();
}

std::string checksum_of(std::string_view bytes, Digest digest) {
  Hash hash(digest);
  hash.add(bytes.data(), bytes.size());
  return hash.hexadecimal();
}

#else

std::string checksum(const std::filesystem::path& path, Digest) {
  fail(
      "{}: this build has no libcrypto, so it cannot check sums; install OpenSSL's headers and "
      "build again",
      path.string());
}

std::string checksum_of(std::string_view, Digest) {
  fail(
      "this build has no libcrypto, so it cannot check sums; install OpenSSL's headers and build "
      "again");
}

#endif

}  // namespace cajal::data
