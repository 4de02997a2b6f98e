#pragma once
// A dataset on disk, opened for reading: the shards of a `dataset.json` (docs/formats.md), or a user's own
// 1-D integer dataset in an HDF5 file. Tokens are addressed over the concatenation of all shards.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/hash.h"

namespace dm::data {

enum class DataCheck { touched, off };  // whether the checksums of the blocks a read touches are compared

struct OpenOptions {
  DataCheck check = DataCheck::touched;
  std::string hdf5_name;  // of the dataset inside a user's own HDF5 file, "" for a prepared dataset
  int64_t eos_id = -1;    // for a user's own file: a token equal to it ends a document; -1: one document
};

/// Thread-safe once open. Every read throws ExitCode::bad_data naming file, block and remedy when bytes do
/// not fit their checksum, a file is shorter than declared or a token is not below vocab_size().
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual const std::string& path() const = 0;
  virtual int64_t token_count() const = 0;
  virtual int64_t doc_count() const = 0;
  virtual int64_t vocab_size() const = 0;   // ids are below it; a user's own file: its largest id + 1
  virtual int64_t eos_id() const = 0;       // -1 if none
  virtual Hash128 fingerprint() const = 0;  // of everything that determines the samples
  virtual const std::string& tokenizer() const = 0;  // "bytes", or the path of the file stored with it
  virtual Hash128 tokenizer_hash() const = 0;
  /// How many bytes of text each id stands for; empty when the tokenizer is not known. Reads the tokenizer's
  /// file when it is first asked; ExitCode::bad_data when that is not the one that the dataset was made with.
  virtual const std::vector<int32_t>& bytes_of_ids() const = 0;
  virtual bool has_loss_mask() const = 0;

  /// tokens[begin, begin + count) into `tokens`; one pread a shard touched.
  virtual void read_tokens(int64_t begin, int64_t count, int32_t* tokens) const = 0;
  /// mask[begin, begin + count): 0 where the token gives no loss as a target. All ones without a mask.
  virtual void read_loss_mask(int64_t begin, int64_t count, uint8_t* mask) const = 0;
  /// Ascending offsets of documents that start inside (begin, begin + count), relative to begin.
  virtual std::vector<int64_t> document_starts(int64_t begin, int64_t count) const = 0;

  /// Samples of `length` + 1 tokens: sample i is tokens [i * length, (i + 1) * length], its last shared with
  /// the next.
  int64_t sample_count(int64_t length) const {
    return token_count() > length ? (token_count() - 1) / length : 0;
  }
};

/// `path` is a folder with dataset.json, or an HDF5 file together with options.hdf5_name. The metadata of
/// every shard is validated first (h5_layout.h); opening reads no payload.
std::shared_ptr<const Dataset> open_dataset(const std::string& path, const OpenOptions& options = {});

/// The prepared datasets that a folder is or holds: itself, or its `train` and `heldout` as prepare makes
/// them; none if there is no dataset.json in any.
std::vector<std::string> datasets_below(const std::string& directory);

}  // namespace dm::data
