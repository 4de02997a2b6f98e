#pragma once
// One golden file in memory. What a case reads is noted, so that nothing in the file can go unused unseen.

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <variant>

namespace dm::golden {

using Attribute = std::variant<int64_t, bool, std::string>;

class GoldenFile {
 public:
  /// Reads all of it; refuses (ExitCode::bad_data) types that generate.py does not write.
  explicit GoldenFile(const std::string& path);

  const std::string& path() const { return path_; }

  bool has(const std::string& attribute) const { return attributes_.contains(attribute); }
  /// ExitCode::bad_data when it is absent or of another type.
  int64_t integer(const std::string& attribute);
  bool flag(const std::string& attribute);
  std::string text(const std::string& attribute);

  /// "input/u": float64, or the integers as stored.
  at::Tensor tensor(const std::string& name);
  /// All of one group, by name inside it.
  std::map<std::string, at::Tensor> group(const std::string& name);

  /// ExitCode::bad_data naming the attributes and tensors that no call has asked for.
  void require_all_used() const;

 private:
  const Attribute& attribute(const std::string& name);

  std::string path_;
  std::map<std::string, Attribute> attributes_;
  std::map<std::string, at::Tensor> tensors_;
  std::set<std::string> used_;  // "@kind", "input/u"
};

}  // namespace dm::golden
