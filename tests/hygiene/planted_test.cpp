// Each check on a small tree with one violation planted: a check that cannot fire proves nothing.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/hygiene/checks.h"
#include "tests/support/process.h"

namespace dm::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class PlantedTest : public testing::Test {
 protected:
  void plant(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(folder_ / path).parent_path());
    write_text(folder_ / path, text);
  }
  SourceTree tree() const { return SourceTree(folder_.path()); }

  TemporaryFolder folder_;
};

TEST_F(PlantedTest, Includes) {
  plant("core/a.h", "");
  plant("kernels/k.h", "#include \"core/a.h\"\n");
  plant("dist/d.h", "#include \"dist/d.h\"\n#include <vector>\n");
  plant("model/m.h", "#include \"kernels/k.h\"\n");
  plant("train/t.h", "#include \"dist/d.h\"\n  #  include \"model/m.h\"  // with a comment\n");
  plant("tests/x_test.cpp", "#include \"train/t.h\"\n");
  EXPECT_THAT(include_direction(tree()), IsEmpty());

  plant("core/up.cpp", "#include \"kernels/k.h\"\n");
  plant("data/side.cpp", "\n#include \"dist/d.h\"\n");
  plant("kernels/k.cu", "#include \"model/m.h\"\n");
  plant("model/rank.h", "#include \"dist/d.h\"\n");
  plant("checkpoints/c.cpp", "#include \"model/m.h\"\n");
  plant("launch/l.cpp", "#include \"tests/support.h\"\n");
  plant("tests/support.h", "");
  plant("train/near.cpp", "#include \"t.h\"\n#include \"../train/t.h\"\n#include \"train/gone.h\"\n");
  EXPECT_THAT(include_direction(tree()),
              ElementsAre("checkpoints/c.cpp:1: \"model/m.h\" does not lie below checkpoints/",
                          "core/up.cpp:1: \"kernels/k.h\" does not lie below core/",
                          "data/side.cpp:2: \"dist/d.h\" does not lie below data/",
                          "kernels/k.cu:1: \"model/m.h\" does not lie below kernels/",
                          "launch/l.cpp:1: \"tests/support.h\" does not lie below launch/",
                          "model/rank.h:1: \"dist/d.h\" does not lie below model/",
                          "train/near.cpp:1: \"t.h\" is no path from the root of the sources",
                          "train/near.cpp:2: \"../train/t.h\" is no path from the root of the sources",
                          "train/near.cpp:3: \"train/gone.h\" is no path from the root of the sources"));
}

TEST_F(PlantedTest, ForeignHeaders) {
  plant("kernels/k.cpp", "#include <ATen/ATen.h>\n#include <torch/csrc/autograd/custom_function.h>\n");
  plant("kernels/x/cuda/stream.cpp", "#include <c10/cuda/CUDAStream.h>\n#include <cuda_runtime_api.h>\n");
  plant("kernels/x/cuda/x.cu", "#include <cuda_bf16.h>\n#include <cub/cub.cuh>\n");
  plant("launch/options.cpp", "#include <boost/program_options.hpp>\n");
  plant("dist/mpi_group.h", "#include <mpi.h>\n");
  plant("core/h5.h", "#include <hdf5.h>\n");
  plant("data/d.cpp", "#include \"core/h5.h\"\n");
  EXPECT_THAT(foreign_headers(tree()), IsEmpty());

  const std::pair<const char*, const char*> wrong[] = {{"kernels/whole.cpp", "torch/torch.h"},
                                                       {"tests/types_test.cpp", "torch/types.h"},
                                                       {"core/tensor.h", "ATen/core/Tensor.h"},
                                                       {"data/tensor.cpp", "c10/util/Half.h"},
                                                       {"checkpoints/t.cpp", "ATen/ATen.h"},
                                                       {"kernels/k.cu", "ATen/ATen.h"},
                                                       {"kernels/k.cuh", "c10/cuda/CUDAStream.h"},
                                                       {"train/options.cpp", "boost/program_options.hpp"},
                                                       {"train/ranks.cpp", "mpi.h"},
                                                       {"dist/mesh.h", "mpi.h"},
                                                       {"tests/dist/x_mpi_test.cpp", "mpi.h"},
                                                       {"model/io.cpp", "hdf5.h"},
                                                       {"data/reader.h", "hdf5.h"},
                                                       {"data/own.h", "H5Dpublic.h"},
                                                       {"kernels/device.h", "cuda_runtime.h"},
                                                       {"model/nccl.cpp", "nccl.h"}};
  for (const auto& [path, header] : wrong) {
    plant(path, fmt::format("#include <vector>\n#include <{}>\n", header));
    EXPECT_THAT(foreign_headers(tree()), ElementsAre(HasSubstr(fmt::format("{}:2: <{}> of ", path, header))));
    std::filesystem::remove(folder_ / path);
  }
  plant("data/public.h", "#include \"core/h5.h\"\n");
  EXPECT_THAT(foreign_headers(tree()),
              ElementsAre("data/public.h:1: \"core/h5.h\" in a header: it brings hdf5.h along"));
}

std::string lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "x\n";
  return text;
}

TEST_F(PlantedTest, LongFiles) {
  plant("core/a.cpp", lines(600));
  plant("docs/long.md", lines(900));
  EXPECT_THAT(file_length(tree()), IsEmpty());
  plant("core/a.cpp", lines(601));
  plant("launch/setup", lines(700));
  EXPECT_THAT(file_length(tree()), ElementsAre("core/a.cpp: 601 lines; 600 are the most, split it",
                                               "launch/setup: 700 lines; 600 are the most, split it"));
}

TEST_F(PlantedTest, PragmaOnce) {
  plant("core/a.h", "#pragma once\n");
  plant("core/a.cpp", "int a;\n");
  EXPECT_THAT(pragma_once(tree()), IsEmpty());
  plant("core/b.h", "#ifndef B_H\n#define B_H\n#endif\n");
  plant("kernels/c.cuh", "// first a comment\n#pragma once\n");
  EXPECT_THAT(pragma_once(tree()), ElementsAre("core/b.h:1: a header begins with #pragma once",
                                               "kernels/c.cuh:1: a header begins with #pragma once"));
}

TEST_F(PlantedTest, OwnHeaderFirst) {
  plant("core/a.h", "");
  plant("core/b.h", "");
  plant("core/a.cpp", "// what it is\n#include \"core/a.h\"\n#include <vector>\n");
  plant("core/main.cpp", "#include <vector>\n");
  EXPECT_THAT(own_header_first(tree()), IsEmpty());
  plant("core/b.cpp", "#include <vector>\n\n#include \"core/b.h\"\n");
  EXPECT_THAT(own_header_first(tree()), ElementsAre("core/b.cpp: \"core/b.h\" must be its first include"));
}

TEST_F(PlantedTest, UnfinishedWork) {
  plant("core/a.cpp", "mkdtemp(\"x-XXXXXX\"); // TODOS, HACKED, 0xXXX\n");
  EXPECT_THAT(unfinished_work(tree()), IsEmpty());
  const std::string words[] = {
      "TO"
      "DO",
      "FIX"
      "ME",
      "X"
      "XX",
      "HA"
      "CK"};
  for (const std::string& word : words) {
    plant("docs/b.md", "fine\n// " + word + ": later\n");
    EXPECT_THAT(unfinished_work(tree()), ElementsAre(HasSubstr("docs/b.md:2: "))) << word;
  }
}

TEST_F(PlantedTest, LayerLetters) {
  plant("model/layers/diff.cpp", "if (letter == 'D') return;\n");
  plant("model/pattern.cpp", "if (c == '*') return; const char first = 'D';\n");
  EXPECT_THAT(layer_letters(tree()), IsEmpty());
  for (const char* line : {"switch (c) { case 'D': break; }", "if (letter == 'S') x();",
                           "if ('M' != letter) x();", "layer_kind('F')"}) {
    plant("train/cost.cpp", std::string("int x;\n") + line + "\n");
    EXPECT_THAT(layer_letters(tree()), ElementsAre(HasSubstr("train/cost.cpp:2: a letter is decided upon")))
        << line;
  }
}

TEST_F(PlantedTest, SourcesLeftOut) {
  plant("core/CMakeLists.txt", "dm_add_library(core SOURCES a.cpp\n  deep/b.cpp)\n");
  plant("core/a.cpp", "");
  plant("core/a.h", "");
  plant("core/deep/b.cpp", "");
  plant("tests/core/CMakeLists.txt", "dm_add_test(core_test SOURCES a_test.cpp ../support/s.cpp)\n");
  plant("tests/core/a_test.cpp", "");
  plant("tests/support/s.cpp", "");
  EXPECT_THAT(sources_left_out(tree()), IsEmpty());
  plant("tests/core/b_test.cpp", "");
  plant("core/deep/a.cpp", "");
  EXPECT_THAT(sources_left_out(tree()), ElementsAre("core/deep/a.cpp: no CMakeLists.txt names it",
                                                    "tests/core/b_test.cpp: no CMakeLists.txt names it"));
}

TEST_F(PlantedTest, BrokenLinks) {
  plant("docs/a.md", "[b](b.md#part) [core](../core/x.h) [web](https://example.org/none) a[i](j)x\n");
  plant("docs/b.md", "");
  plant("docs/j", "");
  plant("core/x.h", "");
  EXPECT_THAT(broken_links(tree()), IsEmpty());
  plant("README.md", "fine\n[a](docs/a.md) and [c](docs/c.md)\n");
  EXPECT_THAT(broken_links(tree()), ElementsAre("README.md:2: the link to docs/c.md leads nowhere"));
}

TEST_F(PlantedTest, IgnoredByGit) {
  plant("data/loader.cpp", "");
  EXPECT_THAT(ignored_by_git(tree()),
              ElementsAre(HasSubstr("run the tests in a clone")));  // no repository yet
  ASSERT_EQ(run({"git", "init", "--quiet", folder_.path()}).exit_code, 0);
  plant(".gitignore", "/build/\n");
  EXPECT_THAT(ignored_by_git(tree()), IsEmpty());
  plant(".gitignore", "/build/\ndata/\n");
  EXPECT_THAT(ignored_by_git(tree()), ElementsAre(HasSubstr(".gitignore:2:data/\tdata/loader.cpp")));
}

TEST_F(PlantedTest, Formatting) {
  plant(".clang-format", read_text(std::string(DM_SOURCE_ROOT) + "/.clang-format"));
  plant("core/a.cpp", "int a = 1;\n");
  EXPECT_THAT(formatting(tree()), IsEmpty());
  plant("core/b.cpp", "int  b =1 ;\n");
  plant("kernels/c.cu", "void f( );\n");
  EXPECT_THAT(formatting(tree()), ElementsAre(HasSubstr(" -i core/b.cpp kernels/c.cu")));
}

}  // namespace
}  // namespace dm::test
