#include "cajal/study/record.h"

namespace cajal::study {

Record::Record(const std::filesystem::path& file, const Json& run) {
  std::error_code failure;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), failure);
  file_ = std::make_unique<JsonLines>(file);
  const auto& lines = file_->lines();
  if (lines.empty() || lines[0] != run) {
    file_->clear();
    file_->add(run);
    return;
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    parts_.insert_or_assign(lines[i].at("part").get<std::string>(), lines[i].at("value"));
    seconds_ += lines[i].at("seconds").get<double>();
  }
}

const Json* Record::find(const std::string& part) const {
  const auto found = parts_.find(part);
  return found == parts_.end() ? nullptr : &found->second;
}

void Record::add(const std::string& part, double seconds, const Json& value) {
  if (file_) file_->add({{"part", part}, {"seconds", seconds}, {"value", value}});
}

}  // namespace cajal::study
