#pragma once
// A dataset whose reads take longer: storage far away, for benchmarks and for tests of order and shutdown.

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "data/dataset.h"

namespace dm::data {

class DelayedDataset final : public Dataset {
 public:
  /// `delay` is asked before every read (of tokens, of a mask, of documents) and may be called by many
  /// threads.
  DelayedDataset(std::shared_ptr<const Dataset> dataset, std::function<std::chrono::microseconds()> delay)
      : dataset_(std::move(dataset)), delay_(std::move(delay)) {}

  int64_t reads() const { return reads_; }
  int64_t in_flight() const { return in_flight_; }
  int64_t most_in_flight() const { return most_in_flight_; }

  const std::string& path() const override { return dataset_->path(); }
  int64_t token_count() const override { return dataset_->token_count(); }
  int64_t doc_count() const override { return dataset_->doc_count(); }
  int64_t vocab_size() const override { return dataset_->vocab_size(); }
  int64_t eos_id() const override { return dataset_->eos_id(); }
  Hash128 fingerprint() const override { return dataset_->fingerprint(); }
  const std::string& tokenizer() const override { return dataset_->tokenizer(); }
  const std::vector<int32_t>& bytes_of_ids() const override { return dataset_->bytes_of_ids(); }
  Hash128 tokenizer_hash() const override { return dataset_->tokenizer_hash(); }
  bool has_loss_mask() const override { return dataset_->has_loss_mask(); }

  void read_tokens(int64_t begin, int64_t count, int32_t* tokens) const override {
    const Flight flight(*this);
    dataset_->read_tokens(begin, count, tokens);
  }
  void read_loss_mask(int64_t begin, int64_t count, uint8_t* mask) const override {
    const Flight flight(*this);
    dataset_->read_loss_mask(begin, count, mask);
  }
  std::vector<int64_t> document_starts(int64_t begin, int64_t count) const override {
    const Flight flight(*this);
    return dataset_->document_starts(begin, count);
  }

 private:
  /// One read: counted, and begun late.
  struct Flight {
    explicit Flight(const DelayedDataset& dataset);
    ~Flight() { --dataset.in_flight_; }
    const DelayedDataset& dataset;
  };

  std::shared_ptr<const Dataset> dataset_;
  std::function<std::chrono::microseconds()> delay_;
  mutable std::atomic<int64_t> reads_{0}, in_flight_{0}, most_in_flight_{0};
};

}  // namespace dm::data
