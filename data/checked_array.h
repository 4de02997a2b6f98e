#pragma once
// A 1-D array in a file whose blocks have checksums beside them, read by pread. The blocks that a read
// touches are read whole, hashed and compared, each time.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/files.h"
#include "data/dataset.h"

namespace dm::data {

class CheckedArray {
 public:
  struct Place {
    const File* file = nullptr;
    const char* name = "";  // "/tokens", for messages
    int64_t count = 0;      // elements
    int64_t element_bytes = 1;
    int64_t block = 1;  // elements under one XXH3-64; the last block may hold fewer
    int64_t offset_bytes = 0;
    int64_t hashes_offset_bytes = 0;  // of the u64 hashes, one a block
  };
  explicit CheckedArray(const Place& place);

  int64_t count() const { return place_.count; }

  /// Calls use(bytes, first, count) for consecutive pieces that make up elements [begin, begin + count). The
  /// bytes live until `use` returns. Throws ExitCode::bad_data naming file, block and remedy where a block
  /// does not fit its hash.
  using Use = std::function<void(const char* bytes, int64_t first, int64_t count)>;
  void read(int64_t begin, int64_t count, DataCheck check, const Use& use) const;

  /// One u64 element, unchecked: for a search whose answer is checked afterwards.
  uint64_t peek(int64_t index) const;

  /// Throws the same error for an element whose value cannot be.
  [[noreturn]] void fail(int64_t element, const std::string& problem) const;

 private:
  void check_blocks(const char* bytes, int64_t first_block, int64_t count) const;
  uint64_t stored_hash(int64_t block) const;

  // Hashes are read in groups, and a bounded number of groups is kept, so that a check costs no second read.
  // (They are compared with freshly read bytes; keeping them trusts our own memory, not the file.)
  struct Group {
    std::mutex mutex;
    int64_t index = -1;
    std::vector<uint64_t> hashes;
  };
  Place place_;
  int64_t block_count_;
  int64_t group_slots_;
  std::unique_ptr<Group[]> groups_;
};

}  // namespace dm::data
