#include "data/input_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"

namespace dm::data {
namespace {
namespace fs = std::filesystem;

bool wanted(const std::string& name, const std::vector<std::string>& suffixes) {
  const std::string plain = unpacked_name(name);
  return suffixes.empty() || std::any_of(suffixes.begin(), suffixes.end(),
                                         [&](const std::string& s) { return plain.ends_with(s); });
}

void add_folder(const std::string& folder, const std::vector<std::string>& suffixes,
                std::vector<InputFile>& files) {
  std::vector<InputFile> found;
  try {
    for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::recursive_directory_iterator();
         ++entry) {
      const bool hidden = entry->path().filename().string().starts_with('.');
      if (hidden && entry->is_directory()) entry.disable_recursion_pending();
      const std::string name = entry->path().lexically_relative(folder).generic_string();
      if (hidden || !entry->is_regular_file() || !wanted(name, suffixes)) continue;
      found.push_back({entry->path().string(), name, static_cast<int64_t>(entry->file_size())});
    }
  } catch (const fs::filesystem_error& error) {
    throw_errno(error.code().value(), "list", error.path1().string(), __FILE__, __LINE__);
  }
  DM_REQUIRE(!found.empty(), ExitCode::usage, "{}: the folder holds no file to read{}", folder,
             suffixes.empty() ? "" : fmt::format(" whose name ends in {}", fmt::join(suffixes, " or ")));
  std::sort(found.begin(), found.end(),
            [](const InputFile& a, const InputFile& b) { return a.name < b.name; });
  files.insert(files.end(), found.begin(), found.end());
}

}  // namespace

std::string unpacked_name(const std::string& name) {
  for (const char* suffix : {".gz", ".zst"})
    if (name.ends_with(suffix)) return name.substr(0, name.size() - std::string(suffix).size());
  return name;
}

std::vector<InputFile> find_inputs(const std::vector<std::string>& inputs,
                                   const std::vector<std::string>& suffixes) {
  DM_REQUIRE(!inputs.empty(), ExitCode::usage,
             "--input is missing: name text files, folders, JSONL files, or - for standard input");
  std::vector<InputFile> files;
  for (const std::string& input : inputs) {
    if (input == "-") {
      files.push_back({"-", "-", -1});
      continue;
    }
    std::error_code error;
    const fs::file_status status = fs::status(input, error);
    DM_REQUIRE(status.type() != fs::file_type::not_found, ExitCode::usage,
               "--input {}: no such file or folder", input);
    if (error) throw_errno(error.value(), "open", input, __FILE__, __LINE__);
    if (fs::is_directory(status)) {
      add_folder(input, suffixes, files);
      continue;
    }
    const bool regular = fs::is_regular_file(status);
    if (regular) File::open(input, O_RDONLY).close();  // an unreadable file shows now, not after hours
    files.push_back({input, input, regular ? static_cast<int64_t>(fs::file_size(input)) : -1});
  }
  DM_REQUIRE(std::count_if(files.begin(), files.end(), [](const InputFile& f) { return f.path == "-"; }) <= 1,
             ExitCode::usage, "--input: standard input (-) is named twice");
  return files;
}

Hash128 list_hash(const std::vector<InputFile>& files) {
  Hasher hasher;
  for (const InputFile& file : files) hasher.update(fmt::format("{} {}\n", file.size_bytes, file.name));
  return hasher.digest_128();
}

int64_t total_bytes(const std::vector<InputFile>& files) {
  int64_t sum = 0;
  for (const InputFile& file : files) {
    if (file.size_bytes < 0) return -1;
    sum += file.size_bytes;
  }
  return sum;
}

}  // namespace dm::data
