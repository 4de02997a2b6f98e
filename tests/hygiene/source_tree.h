#pragma once
// The files of a checkout that people write, as the hygiene checks see them.

#include <string>
#include <string_view>
#include <vector>

namespace dm::test {

struct Include {
  int line;
  std::string target;  // what stands between the quotes or brackets
  bool angled;         // <brackets>
};

struct SourceFile {
  std::string path;  // from the root: "core/error.h"
  std::string text;

  std::string folder() const {
    return path.substr(0, path.find('/'));
  }  // "core"; the name itself for a file in the root
  std::string name() const { return path.substr(path.rfind('/') + 1); }
  bool has_suffix(std::string_view suffix) const { return std::string_view(path).ends_with(suffix); }
  bool is_header() const { return has_suffix(".h") || has_suffix(".cuh"); }
  bool is_cuda() const { return has_suffix(".cu") || has_suffix(".cuh"); }
  /// C++ and CUDA.
  bool is_code() const { return is_header() || has_suffix(".cpp") || has_suffix(".cu"); }
  std::vector<std::string> lines() const;
  std::vector<Include> includes() const;
};

class SourceTree {
 public:
  /// Every text file in the source folders and in the root itself: tracked by git or not, but no build tree.
  explicit SourceTree(const std::string& root);

  const std::string& root() const { return root_; }
  const std::vector<SourceFile>& files() const { return files_; }
  std::vector<SourceFile> code() const;
  bool contains(const std::string& path) const;

 private:
  std::string root_;
  std::vector<SourceFile> files_;
};

/// The folders of the house, lower layers first; tests come last.
const std::vector<std::string>& source_folders();

}  // namespace dm::test
