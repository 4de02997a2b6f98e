#pragma once
// Short letters between ranks, beside everything else they exchange: posted without waiting, taken when they
// come.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace dm::dist {

inline constexpr int64_t kLetterBytes = 256;  // at most

class Mailbox {
 public:
  virtual ~Mailbox() = default;  // what has not left by then may be lost
  /// False, and nothing is sent, while the letter before to that rank has not left. Letters to oneself are
  /// none.
  virtual bool post(int64_t to, const std::string& letter) = 0;

  struct Letter {
    int64_t from;
    std::string text;
  };
  /// The next letter that has come, if any.
  virtual std::optional<Letter> take() = 0;
};

}  // namespace dm::dist
