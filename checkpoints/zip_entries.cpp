#include "checkpoints/zip_entries.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace dm::checkpoints {
namespace {

constexpr int64_t kEndBytes = 22, kLocatorBytes = 20, kEnd64Bytes = 56, kEntryBytes = 46, kLocalBytes = 30;
constexpr int64_t kMaxDirectoryBytes = 256 << 20;
constexpr uint32_t kEndMark = 0x06054B50, kLocatorMark = 0x07064B50, kEnd64Mark = 0x06064B50,
                   kEntryMark = 0x02014B50, kLocalMark = 0x04034B50;

template <class T>
T number(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

class Zip {
 public:
  explicit Zip(const File& file) : file_(file), size_(file.size_bytes()) {}

  std::map<std::string, ZipEntry> entries() {
    const auto [begin, length] = directory();
    const std::string bytes = read(begin, length);
    std::map<std::string, ZipEntry> found;
    for (size_t at = 0; at < bytes.size();) {
      require(bytes.size() - at >= kEntryBytes && number<uint32_t>(bytes, at) == kEntryMark,
              "its directory is broken");
      const auto name_bytes = number<uint16_t>(bytes, at + 28),
                 extra_bytes = number<uint16_t>(bytes, at + 30);
      const size_t end = at + kEntryBytes + name_bytes + extra_bytes + number<uint16_t>(bytes, at + 32);
      require(end <= bytes.size(), "its directory is broken");
      const std::string name = bytes.substr(at + kEntryBytes, name_bytes);
      require(number<uint16_t>(bytes, at + 10) == 0, "an entry is packed");
      require(found.emplace(name, content(bytes, at, name_bytes, extra_bytes)).second,
              "an entry stands twice");
      at = end;
    }
    return found;
  }

 private:
  void require(bool good, const char* problem) const {
    DM_REQUIRE(good, ExitCode::bad_data, "{}: no zip as torch.save writes it: {}", file_.path(), problem);
  }

  std::string read(int64_t offset, int64_t count) const {
    require(offset >= 0 && count >= 0 && count <= size_ && offset <= size_ - count,
            "it points outside the file");
    std::string bytes(static_cast<size_t>(count), '\0');
    file_.read_at(bytes.data(), bytes.size(), offset);
    return bytes;
  }

  /// Offset and size of the central directory. The comment at the end of a zip may have 64 KiB; torch writes
  /// none.
  std::pair<int64_t, int64_t> directory() const {
    require(size_ >= kEndBytes, "it is too short");
    const std::string end = read(size_ - kEndBytes, kEndBytes);
    require(number<uint32_t>(end, 0) == kEndMark, "its last 22 bytes are no end of a directory");
    int64_t length = number<uint32_t>(end, 12), begin = number<uint32_t>(end, 16);
    if (size_ >= kEndBytes + kLocatorBytes) {
      const std::string locator = read(size_ - kEndBytes - kLocatorBytes, kLocatorBytes);
      if (number<uint32_t>(locator, 0) == kLocatorMark) {
        const std::string wide = read(number<int64_t>(locator, 8), kEnd64Bytes);
        require(number<uint32_t>(wide, 0) == kEnd64Mark, "its 64-bit end of a directory is broken");
        length = number<int64_t>(wide, 40), begin = number<int64_t>(wide, 48);
      }
    }
    require(length >= 0 && length <= kMaxDirectoryBytes, "its directory is too long");
    return {begin, length};
  }

  ZipEntry content(const std::string& bytes, size_t at, size_t name_bytes, size_t extra_bytes) const {
    int64_t packed = number<uint32_t>(bytes, at + 20), size = number<uint32_t>(bytes, at + 24),
            local = number<uint32_t>(bytes, at + 42);
    // Numbers that need 64 bits stand in an extra field, in this order, where the narrow ones are all ones.
    const size_t extra_end = at + kEntryBytes + name_bytes + extra_bytes;
    for (size_t field = at + kEntryBytes + name_bytes; field + 4 <= extra_end;) {
      const auto id = number<uint16_t>(bytes, field), length = number<uint16_t>(bytes, field + 2);
      size_t value = field + 4;
      const size_t field_end = value + length;
      require(field_end <= extra_end, "an extra field is broken");
      if (id == 1)
        for (int64_t* narrow : {&size, &packed, &local})
          if (*narrow == UINT32_MAX) {
            require(value + 8 <= field_end, "an extra field is broken");
            *narrow = number<int64_t>(bytes, value);
            value += 8;
          }
      field = field_end;
    }
    require(packed == size && size >= 0, "an entry is packed");
    const std::string header = read(local, kLocalBytes);
    require(number<uint32_t>(header, 0) == kLocalMark, "an entry has no header");
    const int64_t begin = local + kLocalBytes + number<uint16_t>(header, 26) + number<uint16_t>(header, 28);
    require(begin <= size_ && size <= size_ - begin, "an entry reaches past the end of the file");
    return {begin, size};
  }

  const File& file_;
  int64_t size_;
};

}  // namespace

std::map<std::string, ZipEntry> read_zip_entries(const File& file) { return Zip(file).entries(); }

}  // namespace dm::checkpoints
