#pragma once
#include <string>

#include "cajal/data/download.h"
#include "cajal/data/partial_file.h"

namespace cajal::data {

/// What came of one request.
struct Transfer {
  enum class Outcome {
    whole,    // the file is complete
    passing,  // a failure that may pass: try again
    lasting,  // this URL will not do
  };
  Outcome outcome = Outcome::whole;
  std::string problem;  // what went wrong, in words
};

/// Asks `url` for the bytes that `partial` still lacks and appends them; starts anew when the
/// server does not honour the range or has another file now.
/// Throws Error when the bytes cannot be stored (disk full) or this build has no libcurl.
Transfer transfer(const std::string& url, const RemoteFile& file, const DownloadOptions& options,
                  PartialFile& partial);

}  // namespace cajal::data
