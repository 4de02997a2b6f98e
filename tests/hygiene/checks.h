#pragma once
// What a look at the source files can prove. Each check answers with its findings, "PATH:LINE: what is wrong
// and what to do" one each; none is a pass. planted_test.cpp shows each of them finding something.

#include <string>
#include <vector>

#include "tests/hygiene/source_tree.h"

namespace dm::test {

using Findings = std::vector<std::string>;

/// A folder includes only its own headers and those of the folders below it; nothing includes tests. Every
/// quoted include is a path from the root.
Findings include_direction(const SourceTree& tree);
/// Headers of LibTorch, Boost, MPI, HDF5 and CUDA stay in the folders that own them.
Findings foreign_headers(const SourceTree& tree);
/// No file that people read from top to bottom is longer than 600 lines.
Findings file_length(const SourceTree& tree);
Findings pragma_once(const SourceTree& tree);
/// A source includes the header of its name before any other, which so proves to need no other.
Findings own_header_first(const SourceTree& tree);
/// Words that promise to come back later.
Findings unfinished_work(const SourceTree& tree);
/// Only model/layers/ knows which letter means what.
Findings layer_letters(const SourceTree& tree);
/// Every .cpp and .cu is named in a CMakeLists.txt: no test is left out of the build.
Findings sources_left_out(const SourceTree& tree);
/// Links of a .md file to other files lead somewhere.
Findings broken_links(const SourceTree& tree);
/// A file that git would not take along: dist/, data/ and checkpoints/ are names that ignore lists like.
Findings ignored_by_git(const SourceTree& tree);
/// clang-format 14 would change nothing.
Findings formatting(const SourceTree& tree);

}  // namespace dm::test
