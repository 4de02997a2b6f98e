#include "tests/hygiene/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>

#include "tests/support/process.h"

namespace dm::test {
namespace {

/// Who may include whom, besides itself and core (docs/developing.md).
const std::map<std::string, std::set<std::string>>& below() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"core", {}},
      {"kernels", {}},
      {"data", {}},
      {"dist", {}},
      {"model", {"kernels"}},
      {"checkpoints", {"dist"}},
      {"train", {"model", "data", "dist", "checkpoints", "kernels"}},
      {"launch", {"train", "model", "data", "dist", "checkpoints", "kernels"}},
      {"tests", {"launch", "train", "model", "data", "dist", "checkpoints", "kernels"}},
  };
  return table;
}

bool is_source_folder(const std::string& folder) { return below().count(folder) > 0; }

/// Headers of a library: which angled includes are its own, and where they may stand.
struct Foreign {
  const char* library;
  std::regex includes;
  std::function<bool(const SourceFile&)> allowed;
  const char* rule;
};

bool in(const SourceFile& file, std::initializer_list<const char*> folders) {
  return std::any_of(folders.begin(), folders.end(),
                     [&](const char* folder) { return file.folder() == folder; });
}

const std::vector<Foreign>& foreign() {
  static const std::vector<Foreign> table = {
      {"LibTorch", std::regex("(torch/(torch|all|extension|types)\\.h)"),
       [](const SourceFile&) { return false; },
       "it takes half a minute to compile: include the ATen header needed"},
      {"LibTorch", std::regex("(ATen|torch|c10)/.*"),
       [](const SourceFile& f) {
         return !f.is_cuda() && in(f, {"kernels", "model", "train", "launch", "tests"});
       },
       "it belongs into kernels, model, train and launch, and into no CUDA file: those see pointers, sizes "
       "and a stream"},
      {"Boost", std::regex("boost/.*"), [](const SourceFile& f) { return in(f, {"launch"}); },
       "only launch uses it"},
      {"MPI", std::regex("mpi\\.h"),
       [](const SourceFile& f) {
         return f.folder() == "dist" && (!f.is_header() || f.name().rfind("mpi_", 0) == 0);
       },
       "only dist uses it, in its sources and its internal mpi_*.h"},
      {"HDF5", std::regex("(hdf5|H5.*)\\.h"),
       [](const SourceFile& f) {
         return f.path == "core/h5.h" || (!f.is_header() && in(f, {"core", "data", "checkpoints", "tests"}));
       },
       "include core/h5.h, in a .cpp of core, data or checkpoints"},
      {"CUDA",
       std::regex("(cuda|cub|cooperative_groups|nccl|mma|cublas|curand|cutlass|cute)(/|_|[A-Z]|\\.h).*"),
       [](const SourceFile& f) { return f.is_cuda() || f.path.find("/cuda/") != std::string::npos; },
       "it belongs into .cu files and into folders named cuda"},
  };
  return table;
}

template <class Each>
Findings over_lines(const SourceFile& file, const Each& each) {
  Findings findings;
  int number = 0;
  for (const std::string& line : file.lines()) {
    ++number;
    const std::string finding = each(line);
    if (!finding.empty()) findings.push_back(fmt::format("{}:{}: {}", file.path, number, finding));
  }
  return findings;
}

void append(Findings& all, const Findings& more) { all.insert(all.end(), more.begin(), more.end()); }

}  // namespace

Findings include_direction(const SourceTree& tree) {
  Findings findings;
  for (const SourceFile& file : tree.code()) {
    const auto& allowed = below().at(file.folder());
    for (const Include& include : file.includes()) {
      if (include.angled) continue;
      const auto report = [&](const std::string& what) {
        findings.push_back(fmt::format("{}:{}: \"{}\" {}", file.path, include.line, include.target, what));
      };
      const std::string folder = include.target.substr(0, include.target.find('/'));
      if (!is_source_folder(folder) || !tree.contains(include.target))
        report("is no path from the root of the sources");
      else if (folder != file.folder() && folder != "core" && allowed.count(folder) == 0)
        report(fmt::format("does not lie below {}/", file.folder()));
    }
  }
  return findings;
}

Findings foreign_headers(const SourceTree& tree) {
  Findings findings;
  for (const SourceFile& file : tree.code())
    for (const Include& include : file.includes())
      for (const Foreign& library : foreign()) {
        if (!include.angled || !std::regex_match(include.target, library.includes)) continue;
        if (!library.allowed(file))
          findings.push_back(fmt::format("{}:{}: <{}> of {}: {}", file.path, include.line, include.target,
                                         library.library, library.rule));
        break;  // the first row that knows the header decides
      }
  for (const SourceFile& file : tree.code())
    for (const Include& include : file.includes())
      if (include.target == "core/h5.h" && file.is_header())
        findings.push_back(
            fmt::format("{}:{}: \"core/h5.h\" in a header: it brings hdf5.h along", file.path, include.line));
  return findings;
}

Findings file_length(const SourceTree& tree) {
  constexpr size_t kLongest = 600;
  static const std::set<std::string> prose = {".md", ".txt", ".ini", ".json", ".jsonl"};
  Findings findings;
  for (const SourceFile& file : tree.files()) {
    if (prose.count(std::filesystem::path(file.path).extension()) || file.name() == "LICENSE") continue;
    const size_t count = file.lines().size();
    if (count > kLongest)
      findings.push_back(fmt::format("{}: {} lines; {} are the most, split it", file.path, count, kLongest));
  }
  return findings;
}

Findings pragma_once(const SourceTree& tree) {
  Findings findings;
  for (const SourceFile& file : tree.code())
    if (file.is_header() && file.text.rfind("#pragma once\n", 0) != 0)
      findings.push_back(fmt::format("{}:1: a header begins with #pragma once", file.path));
  return findings;
}

Findings own_header_first(const SourceTree& tree) {
  Findings findings;
  for (const SourceFile& file : tree.code()) {
    if (!file.has_suffix(".cpp")) continue;
    const std::string own = file.path.substr(0, file.path.size() - 4) + ".h";
    if (!tree.contains(own)) continue;
    const std::vector<Include> includes = file.includes();
    if (includes.empty() || includes[0].target != own)
      findings.push_back(fmt::format("{}: \"{}\" must be its first include", file.path, own));
  }
  return findings;
}

Findings unfinished_work(const SourceTree& tree) {
  // Written apart, so that this file does not find itself.
  static const std::regex words(
      "(^|[^A-Za-z])(TO"
      "DO|FIX"
      "ME|X"
      "XX|HA"
      "CK)([^A-Za-z]|$)");
  Findings findings;
  for (const SourceFile& file : tree.files())
    append(findings, over_lines(file, [&](const std::string& line) {
             return std::regex_search(line, words)
                        ? "unfinished work does not land: finish it or open an issue"
                        : "";
           }));
  return findings;
}

Findings layer_letters(const SourceTree& tree) {
  static const std::regex comparison(
      "((==|!=|\\bcase)\\s*'[A-Z]')|('[A-Z]'\\s*(==|!=))|(layer_kind\\('[A-Z]'\\))");
  Findings findings;
  for (const SourceFile& file : tree.code()) {
    if (file.path.rfind("model/layers/", 0) == 0 || file.folder() == "tests" || file.folder() == "core")
      continue;
    append(findings, over_lines(file, [&](const std::string& line) {
             return std::regex_search(line, comparison)
                        ? "a letter is decided upon outside model/layers/: ask the LayerKind"
                        : "";
           }));
  }
  return findings;
}

Findings sources_left_out(const SourceTree& tree) {
  static const std::regex source_name("[A-Za-z0-9_./]+\\.(cpp|cu)\\b");
  std::set<std::string> listed;
  for (const SourceFile& file : tree.files()) {
    if (file.name() != "CMakeLists.txt") continue;
    const auto folder = std::filesystem::path(file.path).parent_path();
    for (auto match = std::sregex_iterator(file.text.begin(), file.text.end(), source_name);
         match != std::sregex_iterator(); ++match)
      listed.insert((folder / match->str()).lexically_normal());
  }
  Findings findings;
  for (const SourceFile& file : tree.code())
    if (!file.is_header() && listed.count(file.path) == 0)
      findings.push_back(fmt::format("{}: no CMakeLists.txt names it", file.path));
  return findings;
}

Findings broken_links(const SourceTree& tree) {
  static const std::regex link(R"(\]\(([^)#\s]+)[^)]*\))");
  Findings findings;
  for (const SourceFile& file : tree.files()) {
    if (!file.has_suffix(".md")) continue;
    const auto folder = std::filesystem::path(tree.root()) / std::filesystem::path(file.path).parent_path();
    append(findings, over_lines(file, [&](const std::string& line) {
             for (auto m = std::sregex_iterator(line.begin(), line.end(), link); m != std::sregex_iterator();
                  ++m) {
               const std::string target = (*m)[1];
               if (target.find("://") == std::string::npos && !std::filesystem::exists(folder / target))
                 return fmt::format("the link to {} leads nowhere", target);
             }
             return std::string();
           }));
  }
  return findings;
}

Findings ignored_by_git(const SourceTree& tree) {
  std::string paths;
  for (const SourceFile& file : tree.files()) paths += file.path + "\n";
  // safe.directory: the clone may belong to another user than the one who tests.
  const Outcome outcome = run({"git", "-c", "safe.directory=*", "-C", tree.root(), "check-ignore",
                               "--no-index", "--verbose", "--stdin"},
                              {}, paths);
  if (outcome.exit_code == 1) return {};  // git's way to say: none
  if (outcome.exit_code == 0) return {fmt::format("anchor these patterns of .gitignore:\n{}", outcome.out)};
  return {
      fmt::format("git check-ignore failed in {}: {}run the tests in a clone, or leave this one out:\n"
                  "  ctest -E hygiene_test",
                  tree.root(), outcome.err)};
}

Findings formatting(const SourceTree& tree) {
  std::string program;
  for (const char* name : {"clang-format-14", "clang-format"})
    if (program.empty() && run({name, "--version"}).out.find("version 14.") != std::string::npos)
      program = name;
  if (program.empty())
    return {
        "clang-format 14 is not installed, and other versions format differently: apt-get install "
        "clang-format-14"};
  std::vector<std::string> check = {program, "--dry-run", "-Werror", "--style=file"};
  std::string fix = program + " -i";
  for (const SourceFile& file : tree.code()) check.push_back(tree.root() + "/" + file.path);
  const Outcome outcome = run(check);
  if (outcome.exit_code == 0) return {};
  // One line a file in place of one for every blank.
  static const std::regex place("(^|\n)([^\n:]+):[0-9]+:[0-9]+: error: ");
  std::set<std::string> files;
  for (auto m = std::sregex_iterator(outcome.err.begin(), outcome.err.end(), place);
       m != std::sregex_iterator(); ++m)
    files.insert((*m)[2]);
  for (const std::string& file : files)
    fix += " " + std::filesystem::path(file).lexically_relative(tree.root()).string();
  return {files.empty() ? outcome.err : "these files are not formatted:\n  " + fix};
}

}  // namespace dm::test
