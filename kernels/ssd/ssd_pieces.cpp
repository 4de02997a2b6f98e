#include "kernels/ssd/ssd_pieces.h"

namespace dm::kernels {

SsdPieces cut_rows(const int32_t* seq_idx, int64_t batch, int64_t length, int64_t longest,
                   const bool* enters) {
  SsdPieces cut;
  for (int64_t row = 0; row < batch; ++row) {
    cut.rows.push_back(static_cast<int64_t>(cut.pieces.size()));
    const int32_t* documents = seq_idx + row * length;
    for (int64_t begin = 0; begin < length;) {
      int64_t end = begin + 1;
      while (end < length && end - begin < longest && documents[end] == documents[begin]) ++end;
      const bool carries = begin == 0 ? enters && enters[row] : documents[begin] == documents[begin - 1];
      cut.pieces.push_back({row, begin, end - begin, carries ? cut.slots++ : -1});
      begin = end;
    }
  }
  cut.rows.push_back(static_cast<int64_t>(cut.pieces.size()));
  return cut;
}

}  // namespace dm::kernels
