#include "data/dataset_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "data/block_stream.h"

namespace dm::data {
namespace {

constexpr size_t kCopyBytes = 1 << 20;

File create(const std::string& path) { return File::open(path, O_WRONLY | O_CREAT | O_EXCL); }

/// Copies a whole file to `offset` of another, removes it, and returns the XXH3-128 of its bytes.
Hash128 move_into(const std::string& path, File& to, int64_t offset) {
  const File from = File::open(path, O_RDONLY);
  std::vector<char> buffer(kCopyBytes);
  Hasher hasher;
  for (int64_t at = 0, size = from.size_bytes(); at < size;) {
    const auto step = static_cast<size_t>(std::min<int64_t>(size - at, kCopyBytes));
    from.read_at(buffer.data(), step, at);
    to.write_at(buffer.data(), step, offset + at);
    hasher.update(buffer.data(), step);
    at += static_cast<int64_t>(step);
  }
  DM_SYS(unlink(path.c_str()), "remove", path);
  return hasher.digest_128();
}

/// Copies what is not payload from the file that libhdf5 made to the one that holds the payload.
void copy_metadata(const std::string& path, const H5Layout& layout, File& to) {
  const File from = File::open(path, O_RDONLY);
  for (const auto& [begin, end] : metadata_ranges(layout)) {
    std::vector<char> bytes(static_cast<size_t>(end - begin));  // a few KiB
    from.read_at(bytes.data(), bytes.size(), begin);
    to.write_at(bytes.data(), bytes.size(), begin);
  }
}

/// One payload and its hashes as .part files.
class Part {
 public:
  Part(std::string path, int64_t offset_bytes, int64_t block_bytes)
      : path_(std::move(path)), stream_(create(path_), offset_bytes, block_bytes) {}
  void append(const void* bytes, size_t size_bytes) { stream_.append(bytes, size_bytes); }
  int64_t size_bytes() const { return stream_.size_bytes(); }
  void finish() {
    const std::vector<uint64_t> hashes = stream_.finish();
    File file = create(hashes_path());
    file.write_at(hashes.data(), hashes.size() * sizeof(uint64_t), 0);
    file.close();
  }
  const std::string& path() const { return path_; }
  std::string hashes_path() const { return path_ + ".xxh3"; }

 private:
  std::string path_;
  BlockStream stream_;
};

std::string part_path(const std::string& directory, int64_t shard, const char* kind) {
  return fmt::format("{}/{:05}.{}.part", directory, shard, kind);
}

}  // namespace

/// The shard that is being written.
class ShardParts {
 public:
  ShardParts(const std::string& directory, int64_t index, DType dtype, int64_t first_payload_offset)
      : directory_(directory),
        index_(index),
        dtype_(dtype),
        tokens_(part_path(directory, index, "tokens"), first_payload_offset,
                kBlockTokens * size_bytes(dtype)),
        documents_(part_path(directory, index, "documents"), 0,
                   kBlockDocs * static_cast<int64_t>(sizeof(uint64_t))) {
    start_document();
  }

  void append(const int32_t* ids, int64_t count, bool loss) {
    if (!loss && !mask_) append_losses(token_count_, 1);
    if (mask_) append_losses(count, loss);
    for (int64_t i = 0; i < count; ++i) max_id_ = std::max(max_id_, ids[i]);
    if (dtype_ == DType::u16) {
      narrow_.assign(ids, ids + count);
      tokens_.append(narrow_.data(), narrow_.size() * sizeof(uint16_t));
    } else {
      tokens_.append(ids, static_cast<size_t>(count) * sizeof(int32_t));
    }
    token_count_ += count;
  }

  void end_document() {
    ++doc_count_;
    start_document();
  }

  ShardInfo close() {
    tokens_.finish();
    documents_.finish();
    if (mask_) mask_->finish();
    ShardInfo info;
    info.token_count = token_count_;
    info.doc_count = doc_count_;
    info.max_token_id = max_id_;
    return info;
  }

  int64_t token_count() const { return token_count_; }
  bool masked() const { return mask_.has_value(); }

 private:
  /// /doc_offsets has the offset at which each document starts, and the end of the last.
  void start_document() {
    const auto offset = static_cast<uint64_t>(token_count_);
    documents_.append(&offset, sizeof offset);
  }

  void append_losses(int64_t count, uint8_t loss) {
    if (!mask_) mask_.emplace(part_path(directory_, index_, "mask"), 0, kBlockTokens);
    const std::vector<uint8_t> some(static_cast<size_t>(std::min<int64_t>(count, kCopyBytes)), loss);
    for (; count > 0; count -= static_cast<int64_t>(some.size()))
      mask_->append(some.data(),
                    static_cast<size_t>(std::min<int64_t>(count, static_cast<int64_t>(some.size()))));
  }

  std::string directory_;
  int64_t index_;
  DType dtype_;
  Part tokens_, documents_;
  std::optional<Part> mask_;  // from the first token without loss on; until then every token counts
  std::vector<uint16_t> narrow_;
  int64_t token_count_ = 0, doc_count_ = 0;
  int32_t max_id_ = -1;
};

namespace {

/// A mask of ones for a shard of a dataset in which only others have tokens without loss.
void write_full_mask(const std::string& path, int64_t token_count) {
  Part part(path, 0, kBlockTokens);
  const std::vector<uint8_t> ones(kCopyBytes, 1);
  for (int64_t left = token_count; left > 0; left -= kCopyBytes)
    part.append(ones.data(), static_cast<size_t>(std::min<int64_t>(left, kCopyBytes)));
  part.finish();
}

/// Turns the parts of a shard into its file.
void assemble(const std::string& directory, DatasetInfo& info, int64_t index, int64_t first_payload_offset) {
  ShardInfo& shard = info.shards[static_cast<size_t>(index)];
  const std::string tokens = part_path(directory, index, "tokens"),
                    documents = part_path(directory, index, "documents"),
                    mask = part_path(directory, index, "mask"),
                    metadata = part_path(directory, index, "metadata");
  if (info.loss_mask && !std::filesystem::exists(mask)) write_full_mask(mask, shard.token_count);

  const H5Layout layout = create_h5(metadata, shard_datasets(info, shard), shard_attributes(info, index));
  DM_CHECK(layout.datasets[0].offset_bytes == first_payload_offset,
           "{}: tokens were written to {}, but belong to {}", tokens, first_payload_offset,
           layout.datasets[0].offset_bytes);
  shard.size_bytes = layout.file_size_bytes;
  for (const H5Dataset& dataset : layout.datasets) shard.offsets_bytes.push_back(dataset.offset_bytes);

  File file = File::open(tokens, O_RDWR);
  DM_SYS(ftruncate(file.fd(), layout.file_size_bytes), "resize", tokens);
  copy_metadata(metadata, layout, file);
  DM_SYS(unlink(metadata.c_str()), "remove", metadata);
  move_into(documents, file, shard.offsets_bytes[1]);
  shard.token_hashes = move_into(tokens + ".xxh3", file, shard.offsets_bytes[2]);
  shard.doc_hashes = move_into(documents + ".xxh3", file, shard.offsets_bytes[3]);
  if (info.loss_mask) {
    move_into(mask, file, shard.offsets_bytes[4]);
    shard.mask_hashes = move_into(mask + ".xxh3", file, shard.offsets_bytes[5]);
  }
  file.sync();
  file.close();
  shard.metadata = metadata_digest(tokens, layout);
  const std::string name = directory + "/" + shard_name(index, static_cast<int64_t>(info.shards.size()));
  DM_SYS(std::rename(tokens.c_str(), name.c_str()), "rename", name);
}

}  // namespace

DatasetWriter::DatasetWriter(std::string directory, const Tokenizer& tokenizer, int64_t shard_tokens)
    : directory_(std::move(directory)), shard_tokens_(shard_tokens) {
  DM_REQUIRE(tokenizer.vocab_size() <= kMaxVocab, ExitCode::usage,
             "{}: a vocabulary of {} ids; {} is the most", tokenizer.name(), tokenizer.vocab_size(),
             kMaxVocab);
  info_.tokenizer = tokenizer.name();
  info_.tokenizer_hash = tokenizer.hash();
  info_.vocab_size = tokenizer.vocab_size();
  info_.eos_id = tokenizer.eos_id();
  DM_SYS(mkdir(directory_.c_str(), 0777), "create the folder", directory_);
  if (!tokenizer.file().empty()) {
    const std::string path = tokenizer_path(directory_, info_);
    File copy = create(path);
    copy.write_at(tokenizer.file().data(), tokenizer.file().size(), 0);
    copy.sync();
    copy.close();
  }

  // Where the first payload starts depends on names and types alone; a shard of one token shows it.
  DatasetInfo smallest = info_;
  smallest.shards.resize(1);
  smallest.shards[0].token_count = smallest.shards[0].doc_count = 1;
  const std::string probe = part_path(directory_, 0, "probe");
  first_payload_offset_ =
      create_h5(probe, shard_datasets(smallest, smallest.shards[0]), shard_attributes(smallest, 0))
          .datasets[0]
          .offset_bytes;
  DM_SYS(unlink(probe.c_str()), "remove", probe);
}

DatasetWriter::~DatasetWriter() = default;

void DatasetWriter::append(const int32_t* ids, int64_t count, bool loss) {
  if (!shard_)
    shard_ = std::make_unique<ShardParts>(directory_, static_cast<int64_t>(info_.shards.size()),
                                          token_dtype(info_.vocab_size), first_payload_offset_);
  shard_->append(ids, count, loss);
  token_count_ += count;
}

void DatasetWriter::end_document() {
  const auto eos = static_cast<int32_t>(info_.eos_id);
  append(&eos, 1, true);
  shard_->end_document();
  ++doc_count_;
  if (shard_->token_count() >= shard_tokens_) close_shard();
}

void DatasetWriter::close_shard() {
  info_.shards.push_back(shard_->close());
  info_.loss_mask |= shard_->masked();
  shard_.reset();
}

DatasetInfo DatasetWriter::finish() {
  if (shard_) close_shard();
  DM_CHECK(!info_.shards.empty(), "{}: no document was written", directory_);
  for (size_t i = 0; i < info_.shards.size(); ++i)
    assemble(directory_, info_, static_cast<int64_t>(i), first_payload_offset_);
  sync_directory(directory_);
  write_file_atomically(directory_ + "/" + kDatasetFile, to_text(info_));
  return info_;
}

}  // namespace dm::data
