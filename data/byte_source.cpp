#include "data/byte_source.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/signals.h"

namespace dm::data {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr const char* kRepack = "the archive was cut off or damaged: fetch or pack it again";

/// What the file itself holds, in a buffer that can be looked into.
class RawInput {
 public:
  explicit RawInput(const std::string& path)
      : path_(path == "-" ? "standard input" : path), buffer_(kBufferBytes) {
    if (path != "-") file_ = File::open(path, O_RDONLY);
    fd_ = path == "-" ? STDIN_FILENO : file_.fd();
    struct stat info {};
    DM_SYS(fstat(fd_, &info), "fstat", path_);
    DM_REQUIRE(!S_ISDIR(info.st_mode), ExitCode::usage, "{}: a folder, where a file is expected", path_);
    may_be_silent_ = !S_ISREG(info.st_mode);
  }

  const std::string& path() const { return path_; }
  int64_t consumed_bytes() const { return consumed_; }

  /// What is buffered and not yet taken; reads on until that is `least` bytes or the input ends.
  std::string_view peek(size_t least) {
    while (end_ - begin_ < least) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
      const size_t got = read_some(buffer_.data() + end_, buffer_.size() - end_);
      if (got == 0) break;
      end_ += got;
    }
    return {buffer_.data() + begin_, end_ - begin_};
  }
  void take(size_t count) {
    begin_ += count;
    consumed_ += static_cast<int64_t>(count);
  }

 private:
  size_t read_some(char* to, size_t size) {
    while (true) {
      stop_if_asked();
      if (may_be_silent_) {
        pollfd wait{fd_, POLLIN, 0};
        if (poll(&wait, 1, 200) <= 0) continue;
      }
      const ssize_t got = ::read(fd_, to, size);
      if (got < 0 && errno == EINTR) continue;
      DM_SYS(got, "read", path_);
      return static_cast<size_t>(got);
    }
  }

  std::string path_;
  File file_;
  int fd_ = -1;
  bool may_be_silent_ = false;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
  int64_t consumed_ = 0;
};

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(RawInput raw) : raw_(std::move(raw)) {}
  size_t read(char* to, size_t size_bytes) override {
    const std::string_view bytes = raw_.peek(1).substr(0, size_bytes);
    std::memcpy(to, bytes.data(), bytes.size());
    raw_.take(bytes.size());
    return bytes.size();
  }
  int64_t consumed_bytes() const override { return raw_.consumed_bytes(); }

 private:
  RawInput raw_;
};

/// One or more gzip members, as `cat a.gz b.gz` and `gzip` itself make them.
class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(RawInput raw) : raw_(std::move(raw)) {
    DM_CHECK(inflateInit2(&stream_, MAX_WBITS + 16) == Z_OK, "zlib does not start");
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* to, size_t size_bytes) override {
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(size_bytes, 1 << 30));
    const uInt room = stream_.avail_out;
    while (stream_.avail_out == room) {
      const std::string_view packed = raw_.peek(1);
      if (packed.empty()) {
        DM_REQUIRE(between_members_, ExitCode::bad_data, "{}: the gzip data end at byte {} in the middle; {}",
                   raw_.path(), raw_.consumed_bytes(), kRepack);
        break;
      }
      if (between_members_) inflateReset(&stream_);
      between_members_ = false;
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
      stream_.avail_in = static_cast<uInt>(packed.size());
      const int result = inflate(&stream_, Z_NO_FLUSH);
      raw_.take(packed.size() - stream_.avail_in);
      DM_REQUIRE(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, ExitCode::bad_data,
                 "{}: no valid gzip data at byte {}: {}; {}", raw_.path(), raw_.consumed_bytes(),
                 stream_.msg ? stream_.msg : "damaged", kRepack);
      between_members_ = result == Z_STREAM_END;
    }
    return room - stream_.avail_out;
  }
  int64_t consumed_bytes() const override { return raw_.consumed_bytes(); }

 private:
  RawInput raw_;
  z_stream stream_{};
  bool between_members_ = false;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(RawInput raw) : raw_(std::move(raw)), stream_(ZSTD_createDStream()) {
    DM_CHECK(stream_ != nullptr, "zstd does not start");
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

  size_t read(char* to, size_t size_bytes) override {
    ZSTD_outBuffer out{to, size_bytes, 0};
    while (out.pos == 0) {
      const std::string_view packed = raw_.peek(1);
      if (packed.empty() && !flushing_) {
        DM_REQUIRE(between_frames_, ExitCode::bad_data, "{}: the zstd data end at byte {} in the middle; {}",
                   raw_.path(), raw_.consumed_bytes(), kRepack);
        break;
      }
      ZSTD_inBuffer in{packed.data(), packed.size(), 0};
      const size_t result = ZSTD_decompressStream(stream_, &out, &in);
      raw_.take(in.pos);
      DM_REQUIRE(!ZSTD_isError(result), ExitCode::bad_data, "{}: no valid zstd data at byte {}: {}; {}",
                 raw_.path(), raw_.consumed_bytes(), ZSTD_getErrorName(result), kRepack);
      between_frames_ = result == 0;
      flushing_ =
          out.pos == out.size && result != 0;  // zstd may hold unpacked bytes when the input has ended
    }
    return out.pos;
  }
  int64_t consumed_bytes() const override { return raw_.consumed_bytes(); }

 private:
  RawInput raw_;
  ZSTD_DStream* stream_;
  bool between_frames_ = false;
  bool flushing_ = false;
};

bool named(const std::string& path, std::string_view suffix) {
  return path.size() > suffix.size() && path.ends_with(suffix);
}

}  // namespace

void stop_if_asked() {
  DM_REQUIRE(stop_requested() == StopRequest::none, ExitCode::interrupted,
             "interrupted; nothing was written");
}

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  RawInput raw(path);
  const std::string_view start = raw.peek(4);
  if (start.starts_with("\x1f\x8b")) return std::make_unique<GzipSource>(std::move(raw));
  if (start.starts_with("\x28\xb5\x2f\xfd")) return std::make_unique<ZstdSource>(std::move(raw));
  DM_REQUIRE(!named(path, ".gz") && !named(path, ".zst"), ExitCode::bad_data,
             "{}: its name says {} but its first bytes do not; {}, or rename it if it is plain text", path,
             named(path, ".gz") ? "gzip" : "zstd", kRepack);
  return std::make_unique<PlainSource>(std::move(raw));
}

}  // namespace dm::data
