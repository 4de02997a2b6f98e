#include "checkpoints/names.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>

#include "core/error.h"
#include "core/hash.h"

namespace dm::checkpoints {
namespace {

constexpr std::string_view kStep = "step_", kTemporary = ".tmp-", kTrash = ".trash-", kProbe = ".probe-",
                           kCorrupt = "corrupt-", kMemory = "diffmamba-";

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A decimal number at the start of `text`, padded with zeros to `width` digits and no further.
std::optional<int64_t> take_number(std::string_view& text, size_t width, int64_t max) {
  const size_t digits =
      static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_digit) - text.begin());
  if (digits < std::max<size_t>(width, 1) || digits > 18 || (digits > width && digits > 1 && text[0] == '0'))
    return std::nullopt;
  int64_t value = 0;
  for (const char c : text.substr(0, digits)) value = value * 10 + (c - '0');
  if (value > max) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

bool is_nonce(std::string_view text) {
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::optional<int64_t> take_step(std::string_view& text) {
  return take(text, kStep) ? take_number(text, 9, kMaxStep) : std::nullopt;
}

bool is_part(std::string_view part) {
  const auto legal = [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == '-';
  };
  return !part.empty() && part.size() <= 255 && std::all_of(part.begin(), part.end(), legal) &&
         part.find_first_not_of('.') != std::string_view::npos;
}

}  // namespace

std::string step_name(int64_t step) { return fmt::format("{}{:09}", kStep, step); }
std::optional<int64_t> parse_step_name(std::string_view name) {
  const auto step = take_step(name);
  return name.empty() ? step : std::nullopt;
}

std::string shard_name(int64_t index, int64_t count) {
  return fmt::format("shard-{:05}-of-{:05}.h5", index, count);
}
std::optional<std::pair<int64_t, int64_t>> parse_shard_name(std::string_view name) {
  if (!take(name, "shard-")) return std::nullopt;
  const auto index = take_number(name, 5, kMaxFiles);
  if (!index || !take(name, "-of-")) return std::nullopt;
  const auto count = take_number(name, 5, kMaxFiles);
  if (!count || name != ".h5" || *index >= *count) return std::nullopt;
  return std::pair{*index, *count};
}

std::string temporary_name(int64_t step, std::string_view nonce) {
  return fmt::format("{}{}.{}", kTemporary, step_name(step), nonce);
}
std::string trash_name(int64_t step, std::string_view nonce) {
  return fmt::format("{}{}.{}", kTrash, step_name(step), nonce);
}

std::string corrupt_name(int64_t step, int64_t number) {
  return fmt::format("{}{}.{}", kCorrupt, step_name(step), number);
}
std::optional<int64_t> parse_corrupt_name(std::string_view name) {
  if (!take(name, kCorrupt)) return std::nullopt;
  const auto step = take_step(name);
  const bool rest = step && take(name, ".") && take_number(name, 1, kMaxStep) && name.empty();
  return rest ? step : std::nullopt;
}

std::string memory_name(std::string_view nonce, std::string_view host) {
  return fmt::format("{}{}.{}", kMemory, nonce, host);
}
bool is_memory_name(std::string_view name, std::string_view host) {
  constexpr size_t kNonce = 16;
  return take(name, kMemory) && name.size() > kNonce && is_nonce(name.substr(0, kNonce)) &&
         name[kNonce] == '.' && name.substr(kNonce + 1) == host;
}

std::string probe_name(int64_t rank) { return fmt::format("{}{}", kProbe, rank); }
std::string new_lock_name(std::string_view nonce) { return fmt::format("{}.{}", kLockName, nonce); }

bool is_leftover_name(std::string_view name) {
  if (take(name, kProbe)) return take_number(name, 1, kMaxStep) && name.empty();
  return (take(name, kTemporary) || take(name, kTrash)) && take_step(name) && take(name, ".") &&
         is_nonce(name);
}
bool is_run_leftover_name(std::string_view name) {
  if (take(name, kLockName)) return take(name, ".") && is_nonce(name);
  // The small files of a run folder that are replaced as a whole, as core/files.h does it.
  return (take(name, kLatestName) || take(name, kFailuresName) || take(name, kMemoryName)) &&
         take(name, ".tmp-") && take_number(name, 1, kMaxStep) && name.empty();
}

bool is_tensor_name(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return is_part(name);
  return is_part(name.substr(0, slash)) && is_part(name.substr(slash + 1)) &&
         name.substr(0, slash) != "params";
}

std::string dataset_path(const std::string& tensor, int64_t piece, int64_t pieces) {
  const bool slot = tensor.find('/') != std::string::npos;
  const std::string path = (slot ? "/" : "/params/") + tensor;
  return pieces == 1 ? path : fmt::format("{}@{}", path, piece);
}

std::string make_nonce() {
  uint64_t bits = 0;
  DM_SYS(getrandom(&bits, sizeof bits, 0), "get random bits", "the kernel");
  return hex(bits);
}

}  // namespace dm::checkpoints
