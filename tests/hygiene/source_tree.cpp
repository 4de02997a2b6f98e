#include "tests/hygiene/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>

#include "tests/support/process.h"

namespace dm::test {
namespace {
namespace fs = std::filesystem;

constexpr uintmax_t kLargestSourceBytes = 1 << 20;  // longer files are data

bool is_text(const std::string& content) { return content.find('\0') == std::string::npos; }
}  // namespace

std::vector<std::string> SourceFile::lines() const {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

std::vector<Include> SourceFile::includes() const {
  static const std::regex pattern(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"].*)");
  std::vector<Include> result;
  int number = 0;
  for (const std::string& line : lines()) {
    ++number;
    std::smatch match;
    if (line.find("include") != std::string::npos && std::regex_match(line, match, pattern))
      result.push_back({number, match[2], match[1] == "<"});
  }
  return result;
}

const std::vector<std::string>& source_folders() {
  static const std::vector<std::string> folders = {"core",        "kernels", "data",   "dist", "model",
                                                   "checkpoints", "train",   "launch", "tests"};
  return folders;
}

SourceTree::SourceTree(const std::string& root) : root_(root) {
  const auto add = [&](const fs::directory_entry& entry) {
    if (!entry.is_regular_file() || entry.file_size() > kLargestSourceBytes) return;
    SourceFile file{entry.path().lexically_relative(root).string(), read_text(entry.path().string())};
    if (is_text(file.text)) files_.push_back(std::move(file));
  };
  for (const auto& entry : fs::directory_iterator(root)) add(entry);
  std::vector<std::string> folders = source_folders();
  folders.insert(folders.end(), {"cmake", "docs", "packaging", "recipes", ".ci"});
  for (const std::string& folder : folders) {
    if (!fs::is_directory(root + "/" + folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root + "/" + folder)) add(entry);
  }
  std::sort(files_.begin(), files_.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
}

std::vector<SourceFile> SourceTree::code() const {
  std::vector<SourceFile> result;
  std::copy_if(files_.begin(), files_.end(), std::back_inserter(result),
               [](const SourceFile& f) { return f.is_code(); });
  return result;
}

bool SourceTree::contains(const std::string& path) const {
  return std::any_of(files_.begin(), files_.end(), [&](const SourceFile& f) { return f.path == path; });
}

}  // namespace dm::test
