#pragma once
// How the rows of a batch are cut for the chunked scan on the CPU.
//
// A piece is a run of consecutive tokens of one document within one row, at most `longest` of them, counted
// from the document's first token in the row. So no piece needs a mask, nothing of a document can reach
// another, and a document's result does not depend on what stands beside it in the row.

#include <cstdint>
#include <vector>

namespace dm::kernels {

struct SsdPiece {
  int64_t row;
  int64_t begin;    // first token within the row
  int64_t length;   // >= 1
  int64_t carried;  // slot of the state that enters it, or -1 where that state is zero
};

struct SsdPieces {
  std::vector<SsdPiece> pieces;  // row after row, in order
  std::vector<int64_t> rows;     // [B + 1]: pieces[rows[b]] is the first of row b
  int64_t slots = 0;             // states that enter pieces
};

/// Tokens of a piece at most. Work per token within a piece grows with it, work per piece is spread over it:
/// of 32, 48 and 64 the last was the fastest, or as fast, at P 32 to 64 and N 64 to 128 (AVX-512, forward and
/// backward).
inline constexpr int64_t kSsdLongestPiece = 64;

/// `seq_idx` [batch, length] contiguous. `enters` [batch]: whether a state enters the row's first piece;
/// null: none does.
SsdPieces cut_rows(const int32_t* seq_idx, int64_t batch, int64_t length, int64_t longest,
                   const bool* enters);

}  // namespace dm::kernels
