// One cell of row 47 at a time, under mpirun with as many ranks as dp x cp x tp:
//   layout_helper data FOLDER                        makes the data
//   layout_helper train FOLDER RUN CP TP             trains and saves a tiny model
//   layout_helper move FOLDER FROM TO CP TP          loads the newest of FOLDER/FROM as training does, saves
//   it as FOLDER/TO layout_helper compare FOLDER A B                 exit 1 unless both hold the same
//   tensors, gathered, bit for bit

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "launch/run_groups.h"
#include "tests/train/tiny_run.h"
#include "train/host_state.h"
#include "train/step_runner.h"
#include "train/trainer.h"

namespace dm {
namespace {

void move(const train::RunConfig& from, const train::RunConfig& to, const train::Groups& groups) {
  const auto group = groups.all.duplicate();
  checkpoints::Store source(from.train.run_dir, from.checkpoint, *group);
  checkpoints::Store target(to.train.run_dir, to.checkpoint, *group);
  const auto newest = source.newest();
  DM_REQUIRE(newest, ExitCode::bad_data, "{}: no checkpoint", from.train.run_dir);
  train::StepRunner step(from.model, from.optimizer, {.weights = DType::f64, .activations = at::kDouble},
                         groups);
  train::HostState state(step.parameters(), step.optimizer(), train::HostState::OnCpu::the_arrays);
  checkpoints::load(newest->directory, state.pieces(train::HostState::Purpose::fill));
  state.push();
  target.save(newest->step, state.pieces(train::HostState::Purpose::store), newest->meta);
}

std::vector<char> gathered(const std::string& directory, const checkpoints::Summary::Tensor& tensor) {
  checkpoints::Piece piece{tensor.name,
                           tensor.dtype,
                           tensor.global_shape,
                           {std::vector<int64_t>(tensor.global_shape.size(), 0), tensor.global_shape},
                           nullptr};
  std::vector<char> bytes(static_cast<size_t>(piece.size_bytes()));
  piece.data = bytes.data();
  checkpoints::load(directory, {piece});
  return bytes;
}

int compare(const std::string& a, const std::string& b) {
  const checkpoints::Summary first = checkpoints::read_summary(checkpoints::list(a).at(0)),
                             second = checkpoints::read_summary(checkpoints::list(b).at(0));
  size_t same = 0;
  for (size_t i = 0; i < std::min(first.tensors.size(), second.tensors.size()); ++i)
    same += first.tensors[i].name == second.tensors[i].name &&
            gathered(first.directory, first.tensors[i]) == gathered(second.directory, second.tensors[i]);
  std::printf("%zu of %zu and %zu tensors are equal\n", same, first.tensors.size(), second.tensors.size());
  return same > 0 && same == first.tensors.size() && same == second.tensors.size() ? 0 : 1;
}

int run(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const std::string what = words.at(0), folder = words.at(1);
  if (what == "data") return test::write_tiny_data(folder + "/data", 3000), 0;
  if (what == "compare") return compare(folder + "/" + words.at(2), folder + "/" + words.at(3));
  dist::Environment environment(argc, argv);
  const auto number = [&](size_t from_end) { return std::stol(words.at(words.size() - from_end)); };
  launch::RunGroups groups(environment, {.cp = number(2), .tp = number(1)}, /*on_gpu=*/false);
  const train::RunConfig config = test::tiny_run(folder, words.at(2), 3);
  if (what == "train") return static_cast<int>(train::train(config, groups.groups()));
  return move(config, test::tiny_run(folder, words.at(3), 3), groups.groups()), 0;
}

}  // namespace
}  // namespace dm

int main(int argc, char** argv) {
  try {
    return dm::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "layout_helper: %s\n", error.what());
    return 70;
  }
}
