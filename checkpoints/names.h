#pragma once
// Every name on disk of a run's checkpoints is built and parsed here and nowhere else (docs/formats.md).
// Parsers take exactly what the builders make: no other padding, sign, case or space.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace dm::checkpoints {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kCommitName = "COMMIT";
inline constexpr const char* kLockName = "LOCK";
inline constexpr const char* kLatestName = "latest";
inline constexpr const char* kFailuresName = "failures.json";  // train/failures.h
inline constexpr const char* kMemoryName = "memory";           // memory_store.h
inline constexpr const char* kDirectoryName = "checkpoints";   // inside the run directory

inline constexpr int64_t kMaxStep = 999'999'999'999'999;
inline constexpr int64_t kMaxFiles = 99'999;

/// "step_000001000": a committed checkpoint. Steps of more than nine digits just get longer.
std::string step_name(int64_t step);
std::optional<int64_t> parse_step_name(std::string_view name);

/// "shard-00000-of-00004.h5"
std::string shard_name(int64_t index, int64_t count);
std::optional<std::pair<int64_t, int64_t>> parse_shard_name(std::string_view name);

/// ".tmp-step_000001000.<nonce>" while it is written, ".trash-step_000001000.<nonce>" while it is deleted.
/// Both may be removed by whoever holds the lock. The nonce is 16 lower-case hexadecimal digits.
std::string temporary_name(int64_t step, std::string_view nonce);
std::string trash_name(int64_t step, std::string_view nonce);

/// "corrupt-step_000001000.0": set aside because it did not verify; never deleted by the program.
std::string corrupt_name(int64_t step, int64_t number);
std::optional<int64_t> parse_corrupt_name(std::string_view name);  // the step

/// "diffmamba-<nonce>.<host>": of a run's snapshots in the memory of one host, the nonce that of RUN/memory.
std::string memory_name(std::string_view nonce, std::string_view host);
bool is_memory_name(std::string_view name, std::string_view host);

/// ".probe-<rank>": written and removed at the start, to see that one can.
std::string probe_name(int64_t rank);

/// "LOCK.<nonce>", about to replace LOCK.
std::string new_lock_name(std::string_view nonce);

/// What a killed job may leave in the checkpoints' directory and in the run directory: the names above, and
/// "latest.tmp-<pid>", "failures.json.tmp-<pid>", "memory.tmp-<pid>" (core/files.h).
bool is_leftover_name(std::string_view name);
bool is_run_leftover_name(std::string_view name);

/// "NAME" or "SLOT/NAME" of letters, digits and . _ - (each part at most 255 of them, not only dots; SLOT is
/// not "params").
bool is_tensor_name(std::string_view name);
/// Where a piece of a tensor lies in its HDF5 file: "/params/NAME" or "/SLOT/NAME", with "@k" for piece k of
/// several.
std::string dataset_path(const std::string& tensor, int64_t piece, int64_t pieces);

/// 64 random bits from the kernel as 16 hexadecimal digits.
std::string make_nonce();

}  // namespace dm::checkpoints
