#include "data/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/parallel.h"
#include "data/byte_source.h"
#include "data/dataset_writer.h"
#include "data/document_encoder.h"
#include "data/documents.h"
#include "data/input_files.h"
#include "data/ordered_pipeline.h"
#include "data/prepare_record.h"
#include "data/progress.h"
#include "data/staging.h"

namespace dm::data {
namespace {

constexpr size_t kPortionBytes = 1 << 20;

DocumentRule rule_of(const std::string& name) {
  if (name == "file") return DocumentRule::file;
  if (name == "blank-line") return DocumentRule::blank_line;
  return name == "jsonl" ? DocumentRule::jsonl : DocumentRule::by_name;
}

/// What stands in the pipeline: a portion, and then its ids.
struct Work {
  Portion portion;
  EncodedPortion encoded;
};

/// Sends the runs of ids, in order, to the side of their document.
class Sides {
 public:
  Sides(const std::string& folder, const Tokenizer& tokenizer, const PrepareConfig& config)
      : train_(folder + "/train", tokenizer, config.shard_tokens) {
    if (config.heldout > 0)
      heldout_ = std::make_unique<DatasetWriter>(folder + "/heldout", tokenizer, config.shard_tokens);
  }

  void add(const EncodedPortion& portion) {
    size_t begin = 0;
    for (const EncodedPortion::Run& run : portion.runs) {
      if (run.first) current_ = run.held_out ? heldout_.get() : &train_;
      current_->append(portion.ids.data() + begin, static_cast<int64_t>(run.end - begin), run.loss);
      if (run.last) current_->end_document();
      begin = run.end;
    }
  }

  void finish(const PrepareConfig& config, PrepareResult& result) {
    const int64_t documents = train_.doc_count() + (heldout_ ? heldout_->doc_count() : 0);
    DM_REQUIRE(documents > 0, ExitCode::usage, "--input {}: holds no document{}; nothing was written",
               fmt::join(config.input, ","),
               result.empty_documents > 0 ? fmt::format(" ({} are empty)", result.empty_documents) : "");
    DM_REQUIRE(train_.doc_count() > 0 && (!heldout_ || heldout_->doc_count() > 0), ExitCode::usage,
               "--heldout {}: of {} documents {} fall to {} and none to {}; use another share, more "
               "documents (--documents), or 0; "
               "nothing was written",
               config.heldout, documents, documents, train_.doc_count() > 0 ? "train" : "heldout",
               train_.doc_count() > 0 ? "heldout" : "train");
    result.train = finish(train_);
    if (heldout_) result.heldout = finish(*heldout_);
  }

 private:
  static PrepareResult::Side finish(DatasetWriter& writer) {
    const DatasetInfo info = writer.finish();
    return {info.doc_count(), info.token_count(), static_cast<int64_t>(info.shards.size())};
  }

  DatasetWriter train_;
  std::unique_ptr<DatasetWriter> heldout_;
  DatasetWriter* current_ = nullptr;
};

void check(const PrepareConfig& config) {
  DM_REQUIRE(!config.output.empty(), ExitCode::usage, "--output is missing: name the folder to make");
  DM_REQUIRE(config.text_field != config.prompt_field && config.text_field != config.completion_field &&
                 config.prompt_field != config.completion_field,
             ExitCode::usage,
             "--text-field, --prompt-field and --completion-field must differ: '{}', '{}', '{}'",
             config.text_field, config.prompt_field, config.completion_field);
}

}  // namespace

PrepareResult prepare(const PrepareConfig& config) { return detail::prepare(config, kPortionBytes); }

PrepareResult detail::prepare(const PrepareConfig& config, size_t portion_bytes) {
  check(config);
  const auto tokenizer = open_tokenizer(config.tokenizer, {.token = config.eos_token});
  const std::vector<InputFile> files = find_inputs(config.input, config.suffixes);
  const Json request = prepare_request(config, *tokenizer, files);
  PrepareResult result;
  if (find_prepared(config.output, request, result)) return result;
  result.files = static_cast<int64_t>(files.size());

  Staging staging(config.output);
  Sides sides(staging.path(), *tokenizer, config);
  const DocumentReader reader{rule_of(config.documents), portion_bytes, *tokenizer};
  const DocumentEncoder encoder{*tokenizer, config.text_field, config.prompt_field, config.completion_field,
                                config.heldout};
  {
    Progress progress("prepare", total_bytes(files));
    const int64_t workers = config.threads > 0 ? config.threads : threads();
    OrderedPipeline<Work> pipeline(
        workers, static_cast<size_t>(2 * workers + 2),
        [&](Work& work) {
          work.encoded = encoder.encode(work.portion);
          work.portion = {};
        },
        [&](Work& work) {
          sides.add(work.encoded);
          result.text_bytes += work.encoded.text_bytes;
          result.empty_documents += work.encoded.empty_documents;
          result.invalid_utf8_bytes += work.encoded.invalid_utf8_bytes;
          progress.update(work.encoded.end_bytes);
        });
    reader.read(files, [&](Portion portion) { pipeline.push({std::move(portion), {}}); });
    pipeline.finish();
  }
  stop_if_asked();
  sides.finish(config, result);
  write_file_atomically(staging.path() + "/prepare.json", prepare_record(request, result));
  stop_if_asked();
  staging.commit();
  return result;
}

std::string PrepareResult::summary() const {
  std::string text = reused ? "already prepared from the same inputs and options; nothing was written\n" : "";
  const auto side = [&](const char* name, const Side& s) {
    text += fmt::format("{:<8} {} documents, {} tokens, {} shard{}\n", name, s.documents, s.tokens, s.shards,
                        s.shards == 1 ? "" : "s");
  };
  side("train", train);
  if (heldout.documents > 0) side("heldout", heldout);
  text += fmt::format("{} file{}, {} bytes of text", files, files == 1 ? "" : "s", text_bytes);
  if (empty_documents > 0) text += fmt::format("; {} empty documents skipped", empty_documents);
  if (invalid_utf8_bytes > 0)
    text += fmt::format("; {} bytes that are no UTF-8 (kept by 'bytes', U+FFFD to a tokenizer file)",
                        invalid_utf8_bytes);
  return text + "\n";
}

}  // namespace dm::data
