#pragma once
// What a save will write: from the piece lists of all ranks to the order of datasets in every file. Pure
// arithmetic, the same on every rank, so that files are byte-identical from run to run.

#include <string>
#include <vector>

#include "checkpoints/manifest.h"
#include "checkpoints/state.h"
#include "core/h5_layout.h"

namespace dm::checkpoints {

/// A rank's pieces, without their data, as text that the other ranks can read. Refuses pieces that no
/// checkpoint can hold.
std::string piece_list(const std::vector<Piece>& pieces);

struct SavePlan {
  /// Where a stored piece comes from.
  struct Source {
    int64_t rank = 0;
    int64_t index = 0;  // in that rank's list
    size_t tensor = 0;  // in manifest.tensors
    size_t piece = 0;   // in its pieces
  };
  Manifest manifest;            // without offsets, hashes and files' sizes
  std::vector<Source> sources;  // in the order of the manifest

  /// The datasets of one file in the order they are created, and their sources.
  std::vector<H5Dataset> datasets(int64_t file) const;
  std::vector<Source> in_file(int64_t file) const;
  Manifest::StoredPiece& stored(const Source& source) {
    return manifest.tensors[source.tensor].pieces[source.piece];
  }
  const Manifest::StoredPiece& stored(const Source& source) const {
    return manifest.tensors[source.tensor].pieces[source.piece];
  }
};

/// `lists` are all ranks' piece lists, `file_of_rank` the files they write to. Throws ExitCode::internal
/// unless together they cover each tensor exactly once and agree on its dtype and shape.
SavePlan make_plan(int64_t step, const std::vector<std::string>& lists,
                   const std::vector<int64_t>& file_of_rank);

}  // namespace dm::checkpoints
