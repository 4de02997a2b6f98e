#include "checkpoints/host_files.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "checkpoints/directory.h"
#include "core/error.h"
#include "core/files.h"
#include "core/progress.h"

namespace dm::checkpoints {
namespace {

constexpr int64_t kPieceBytes = 16 << 20;

/// The first thing that failed; the rest is then left out.
class FirstProblem {
 public:
  void attempt(const std::function<void()>& work) {
    if (!text_.empty()) return;
    try {
      work();
    } catch (const std::exception& error) {
      text_ = error.what();
    }
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

int64_t pieces(const std::optional<Transfer>& transfer) {
  return transfer ? (transfer->size_bytes + kPieceBytes - 1) / kPieceBytes : 0;
}

int64_t bytes_of(const Transfer& transfer, int64_t piece) {
  return std::min(kPieceBytes, transfer.size_bytes - piece * kPieceBytes);
}

}  // namespace

std::string exchange_files(const std::optional<Transfer>& send, const std::optional<Transfer>& receive,
                           Collectives& group) {
  FirstProblem problem;
  File source, target;
  const std::string partial = receive ? receive->path + ".part" : "";
  problem.attempt([&] {
    if (send) source = open_regular(send->path, send->size_bytes);
    if (receive) target = File::open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  });
  std::vector<std::byte> out(static_cast<size_t>(send ? std::min(kPieceBytes, send->size_bytes) : 0)),
      in(static_cast<size_t>(receive ? std::min(kPieceBytes, receive->size_bytes) : 0));
  for (int64_t piece = 0; piece < std::max(pieces(send), pieces(receive)); ++piece) {
    std::unique_ptr<Pending> sending, receiving;
    if (piece < pieces(receive))
      receiving = group.receive(in.data(), bytes_of(*receive, piece), DType::u8, receive->rank);
    if (piece < pieces(send)) {
      const int64_t bytes = bytes_of(*send, piece);
      problem.attempt([&] { source.read_at(out.data(), static_cast<size_t>(bytes), piece * kPieceBytes); });
      sending = group.send(out.data(), bytes, DType::u8, send->rank);
    }
    if (receiving) {
      receiving->wait();
      problem.attempt([&] {
        target.write_at(in.data(), static_cast<size_t>(bytes_of(*receive, piece)), piece * kPieceBytes);
      });
    }
    if (sending) sending->wait();
    made_progress();
  }
  problem.attempt([&] {
    if (!receive) return;
    target.close();
    DM_SYS(std::rename(partial.c_str(), receive->path.c_str()), "rename", partial);
  });
  return problem.text();
}

}  // namespace dm::checkpoints
