#include "data/checked_array.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/hash.h"

namespace dm::data {
namespace {

constexpr int64_t kPieceBytes = 128 << 10;  // read at once: stays in a core's second-level cache
constexpr int64_t kPageBytes = 4096;
constexpr int64_t kGroupHashes = 512;  // 4 KiB
constexpr int64_t kGroupsKept = 1024;  // 4 MiB an array, enough for the hashes of 16 GiB

/// This thread's buffer for a read at `offset`. It starts at the offset's place within a page: where the
/// copy's two ends differ by 8 bytes there, x86's string move falls back to 8 bytes a step and takes 3.5
/// times as long (measured).
char* piece_buffer(int64_t offset) {
  static thread_local const std::unique_ptr<char[]> memory(new char[kPieceBytes + 2 * kPageBytes]);
  const auto address = reinterpret_cast<uintptr_t>(memory.get());
  const uintptr_t page = (address + kPageBytes - 1) / kPageBytes * kPageBytes;
  return memory.get() + (page - address) + offset % kPageBytes;
}

}  // namespace

CheckedArray::CheckedArray(const Place& place)
    : place_(place),
      block_count_((place.count + place.block - 1) / place.block),
      group_slots_(std::clamp((block_count_ + kGroupHashes - 1) / kGroupHashes, int64_t{1}, kGroupsKept)),
      groups_(std::make_unique<Group[]>(static_cast<size_t>(group_slots_))) {
  DM_CHECK(place.block * place.element_bytes <= kPieceBytes, "{}: a block is larger than a piece",
           place.name);
}

void CheckedArray::read(int64_t begin, int64_t count, DataCheck check, const Use& use) const {
  DM_CHECK(begin >= 0 && count >= 0 && begin <= place_.count - count,
           "{}: {} [{}, {} + {}) is outside 0 .. {}", place_.file->path(), place_.name, begin, begin, count,
           place_.count);
  const int64_t piece = kPieceBytes / (place_.block * place_.element_bytes) * place_.block;
  for (const int64_t end = begin + count; begin < end;) {
    // What is read (from, to) is what is wanted, widened to whole blocks if they are to be checked.
    const int64_t from = check == DataCheck::off ? begin : begin / place_.block * place_.block;
    const int64_t stop = std::min(end, from + piece);
    const int64_t to = check == DataCheck::off
                           ? stop
                           : std::min((stop + place_.block - 1) / place_.block * place_.block, place_.count);
    const int64_t offset = place_.offset_bytes + from * place_.element_bytes;
    char* bytes = piece_buffer(offset);
    place_.file->read_at(bytes, static_cast<size_t>((to - from) * place_.element_bytes), offset);
    if (check != DataCheck::off) check_blocks(bytes, from / place_.block, to - from);
    use(bytes + (begin - from) * place_.element_bytes, begin, stop - begin);
    begin = stop;
  }
}

void CheckedArray::check_blocks(const char* bytes, int64_t block, int64_t count) const {
  for (; count > 0; ++block) {
    const int64_t elements = std::min(count, place_.block);
    const auto size = static_cast<size_t>(elements * place_.element_bytes);
    if (xxh3_64(bytes, size) != stored_hash(block)) [[unlikely]]
      fail(block * place_.block, "its bytes do not fit their checksum");
    bytes += size;
    count -= elements;
  }
}

uint64_t CheckedArray::stored_hash(int64_t block) const {
  const int64_t index = block / kGroupHashes;
  Group& group = groups_[static_cast<size_t>(index % group_slots_)];
  const std::lock_guard lock(group.mutex);
  if (group.index != index) {
    const int64_t first = index * kGroupHashes;
    group.index = -1;
    group.hashes.resize(static_cast<size_t>(std::min(kGroupHashes, block_count_ - first)));
    place_.file->read_at(group.hashes.data(), group.hashes.size() * sizeof(uint64_t),
                         place_.hashes_offset_bytes + first * static_cast<int64_t>(sizeof(uint64_t)));
    group.index = index;
  }
  return group.hashes[static_cast<size_t>(block % kGroupHashes)];
}

uint64_t CheckedArray::peek(int64_t index) const {
  uint64_t value = 0;
  place_.file->read_at(&value, sizeof value,
                       place_.offset_bytes + index * static_cast<int64_t>(sizeof value));
  return value;
}

void CheckedArray::fail(int64_t element, const std::string& problem) const {
  const int64_t block = element / place_.block, first = block * place_.block;
  const int64_t last = std::min(first + place_.block, place_.count);
  const std::string& path = place_.file->path();
  DM_FAIL(ExitCode::bad_data,
          "{}: {} elements {} .. {} (block {}, bytes {} .. {}): {}; the file was damaged after it was "
          "written: see what "
          "else is with `diffmamba verify {}`, then restore it or prepare the dataset again",
          path, place_.name, first, last - 1, block, place_.offset_bytes + first * place_.element_bytes,
          place_.offset_bytes + last * place_.element_bytes - 1, problem,
          std::filesystem::path(path).parent_path().string());
}

}  // namespace dm::data
