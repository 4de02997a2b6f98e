#include "tests/fuzz/targets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "checkpoints/manifest.h"
#include "checkpoints/safetensors.h"
#include "checkpoints/store.h"
#include "checkpoints/torch_state_dict.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/files.h"
#include "core/h5_layout.h"
#include "data/document_encoder.h"
#include "data/loader.h"
#include "data/tokenizers/huggingface.h"
#include "data/tokenizers/sentencepiece.h"
#include "train/plan/cluster.h"

namespace dm::test {
namespace {

/// A file of these bytes, the same path for every input of this process.
class InputFile {
 public:
  explicit InputFile(const std::string& bytes)
      : path_(std::filesystem::temp_directory_path() / ("dm-fuzz-" + std::to_string(getpid()))) {
    File file = File::open(path_, O_WRONLY | O_CREAT | O_TRUNC);
    file.write_at(bytes.data(), bytes.size(), 0);
  }
  ~InputFile() { unlink(path_.c_str()); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// What holds for every manifest that is read: written again it is the same.
void read_manifest(const std::string& bytes) {
  const std::string text = to_text(checkpoints::parse_manifest(bytes, "manifest.json"));
  DM_CHECK(to_text(checkpoints::parse_manifest(text, "its copy")) == text, "a manifest reads back otherwise");
}

void read_ends(const checkpoints::ForeignTensors& tensors) {
  constexpr int64_t kMost = 4096;  // of a tensor: many may be views of the same bytes
  std::vector<float> values(kMost);
  for (const auto& [name, tensor] : tensors.tensors()) {
    const int64_t count = std::min(tensor.count(), kMost);
    tensors.read(tensor, 0, count, values.data());
    tensors.read(tensor, tensor.count() - count, count, values.data());
  }
}

void read_safetensors(const std::string& bytes) {
  const InputFile file(bytes);
  read_ends(checkpoints::ForeignTensors::open_safetensors({file.path()}));
}

void read_state_dict(const std::string& bytes) {
  const InputFile file(bytes);
  read_ends(checkpoints::open_torch_state_dict(file.path()));
}

/// In a child process first, as everywhere: libhdf5 may crash there. What may not happen there is a
/// sanitizer's end, which is no signal of libhdf5's: it exits, or dies of the report that it may not write.
void read_hdf5(const std::string& bytes) {
  const InputFile file(bytes);
  try {
    validate_h5_in_child(file.path());
  } catch (const Error& error) {
    const std::string why = error.what();
    DM_CHECK(
        why.find("ended the process") == std::string::npos && why.find("(signal 25)") == std::string::npos,
        "{}", why);
    throw;
  }
  const H5Layout layout = read_h5_layout(file.path());
  metadata_digest(file.path(), layout);
}

/// A text that has a bit of everything, broken UTF-8 too, there and back.
void use(const data::Tokenizer& tokenizer) {
  const std::string text =
      "It's 1984, na\xC3\xAFve\r\n\t\xE6\x97\xA5\xE6\x9C\xAC  e\xCC\x81 \xF0\x9F\x8C\xB2<|endoftext|> "
      "\xFF\xC3 x";
  DM_CHECK(tokenizer.complete_prefix(text) <= text.size(), "cut behind the end");
  std::vector<int32_t> ids;
  tokenizer.encode(text, ids);
  tokenizer.decode(ids);
  for (const int32_t id : ids) DM_CHECK(tokenizer.byte_count(id) >= 0, "a negative size");
}

void read_tokenizer_json(const std::string& bytes) {
  use(*data::make_huggingface_tokenizer(bytes, "/nowhere/tokenizer.json", {.token = "", .id = 0}));
}

void read_sentencepiece(const std::string& bytes) {
  use(*data::make_sentencepiece_tokenizer(bytes, "/nowhere/tokenizer.model", {.token = "", .id = 0}));
}

struct Options {
  data::LoaderConfig data;
  checkpoints::StoreConfig checkpoint;
  train::Cluster cluster;

  FieldTable table() {
    FieldTable all;
    all.add("cluster", cluster);
    all.add("checkpoint", checkpoint);
    all.add("loader", data);
    return all;
  }
};

/// Every value, in every spelling, is written so that it reads back.
void read_options(const std::string& bytes) {
  Options options, again;
  read_ini(options.table(), bytes, "options.ini");
  const std::string text = options.table().to_ini();
  read_ini(again.table(), text, "its copy");
  DM_CHECK(again.table().to_ini() == text, "options read back otherwise");
}

void read_json_lines(const std::string& bytes) {
  const std::unique_ptr<data::Tokenizer> tokenizer = data::open_tokenizer("bytes");
  const data::DocumentEncoder encoder{.tokenizer = *tokenizer, .held_out = 0.5};
  data::Portion portion;
  portion.text = bytes;
  portion.json_lines = true;
  portion.source = "lines.jsonl";
  const data::EncodedPortion encoded = encoder.encode(portion);
  size_t end = 0;
  for (const auto& run : encoded.runs) {
    DM_CHECK(run.end >= end && run.end <= encoded.ids.size(), "runs overlap");
    end = run.end;
  }
  DM_CHECK(end == encoded.ids.size(), "{} ids belong to no document", encoded.ids.size() - end);
}

template <void (*read)(const std::string&)>
std::string refusal(const std::string& bytes) {
  try {
    read(bytes);
    return "";
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_data && error.code() != ExitCode::usage) throw;
    return error.what();
  }
}

}  // namespace

const std::vector<FuzzTarget>& fuzz_targets() {
  static const std::vector<FuzzTarget> targets = {
      {"manifest", refusal<read_manifest>},
      {"safetensors", refusal<read_safetensors>},
      {"state_dict", refusal<read_state_dict>},
      {"hdf5", refusal<read_hdf5>},
      {"tokenizer_json", refusal<read_tokenizer_json>},
      {"sentencepiece", refusal<read_sentencepiece>},
      {"options", refusal<read_options>},
      {"json_lines", refusal<read_json_lines>},
  };
  return targets;
}

const FuzzTarget* find_fuzz_target(const std::string& name) {
  for (const FuzzTarget& target : fuzz_targets())
    if (name == target.name) return &target;
  return nullptr;
}

}  // namespace dm::test
