#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "data/row_reader.h"

namespace dm::data {
namespace {

struct Entry {
  std::string path;
  double weight = 0;  // 0: none given
};

/// "PATH:WEIGHT", or a path: what follows the last colon is a weight when it is a number.
Entry parse_entry(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return {text};
  const std::string digits = text.substr(colon + 1);
  if (digits.empty() || digits.find_first_not_of("0123456789.eE+-") != std::string::npos) return {text};
  const double weight = parse_number(digits, fmt::format("--data {}: weight", text));
  DM_REQUIRE(weight > 0, ExitCode::usage, "--data {}: weight {} is not above 0", text, digits);
  return {text.substr(0, colon), weight};
}

}  // namespace

std::vector<WeightedDataset> open_datasets(const LoaderConfig& config, int64_t length) {
  std::vector<WeightedDataset> datasets;
  size_t weighted = 0;
  OpenOptions options;
  options.check = config.data_check == "off" ? DataCheck::off : DataCheck::touched;
  options.hdf5_name = config.hdf5_name;
  options.eos_id = config.eos_id;
  for (const std::string& text : config.data) {
    const Entry entry = parse_entry(text);
    weighted += entry.weight > 0;
    datasets.push_back({open_dataset(entry.path, options), entry.weight});
  }
  DM_REQUIRE(weighted == 0 || weighted == datasets.size(), ExitCode::usage,
             "--data: {} of {} datasets have a weight; give all of them one (PATH:WEIGHT), or none", weighted,
             datasets.size());
  if (weighted == 0)
    for (auto& [dataset, weight] : datasets)
      weight = static_cast<double>(std::max<int64_t>(1, dataset->sample_count(length)));
  return datasets;
}

/// The readers and the ring of batches between them and next(). A task is one row; tasks are handed out in
/// order, and only for the `prefetch_batches` batches after the last one delivered. A batch is complete when
/// all its rows are.
struct Loader::Impl {
  struct Slot {
    Batch batch;
    int64_t missing_rows = 0;
    std::exception_ptr error{};
    int64_t error_row = 0;
  };

  Impl(RowReader reader_, const LoaderConfig& config, const Shape& shape, int64_t samples_consumed)
      : reader(std::move(reader_)),
        slots(static_cast<size_t>(std::max<int64_t>(1, config.prefetch_batches))) {
    DM_REQUIRE(samples_consumed >= 0 && samples_consumed % shape.global_rows == 0, ExitCode::usage,
               "{} samples consumed do not make whole batches of {} rows; resume with the global batch that "
               "was used",
               samples_consumed, shape.global_rows);
    delivered = claimed_batch = samples_consumed / shape.global_rows;
    for (int64_t i = 0; i < static_cast<int64_t>(slots.size()); ++i) refill(delivered + i);
    try {
      for (int64_t i = 0; i < config.reader_threads; ++i) threads.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Impl() { stop(); }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    rows_wanted.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  Slot& slot(int64_t batch) { return slots[static_cast<size_t>(batch % static_cast<int64_t>(slots.size()))]; }

  void refill(int64_t batch) {
    Slot& place = slot(batch);
    place.batch = reader.empty_batch(batch);
    place.missing_rows = place.batch.rows;
    place.error = nullptr;
  }

  bool row_available() const { return claimed_batch < delivered + static_cast<int64_t>(slots.size()); }

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      rows_wanted.wait(lock, [this] { return stopping || row_available(); });
      if (stopping) return;
      Slot& place = slot(claimed_batch);
      const int64_t row = claimed_row++;
      if (claimed_row >= place.batch.rows) ++claimed_batch, claimed_row = 0;
      if (row >= place.batch.rows) continue;  // a rank without rows

      lock.unlock();
      std::exception_ptr error;
      try {
        reader.read(place.batch, row);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && (!place.error || row < place.error_row)) place.error = error, place.error_row = row;
      if (--place.missing_rows == 0) batch_ready.notify_one();
    }
  }

  Batch next() {
    const auto asked = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    Slot& place = slot(delivered);
    batch_ready.wait(lock, [&] { return place.missing_rows == 0; });
    if (place.error) std::rethrow_exception(place.error);
    lock.unlock();

    Batch batch = std::move(place.batch);
    refill(delivered + static_cast<int64_t>(slots.size()));  // nobody reads the slot until it is announced
    lock.lock();
    ++delivered;
    lock.unlock();
    for (int64_t row = 0; row < batch.rows; ++row) rows_wanted.notify_one();
    batch.wait_ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - asked).count();
    return batch;
  }

  RowReader reader;
  std::vector<Slot> slots;  // batch b is in slot b % size

  std::mutex mutex;
  std::condition_variable rows_wanted, batch_ready;
  int64_t delivered = 0;      // the batch that next() waits for
  int64_t claimed_batch = 0;  // the row handed out next
  int64_t claimed_row = 0;
  bool stopping = false;
  std::vector<std::thread> threads;
};

Loader::Loader(const LoaderConfig& config, const Shape& shape, int64_t samples_consumed)
    : Loader(open_datasets(config, shape.length), config, shape, samples_consumed) {}

Loader::Loader(std::vector<WeightedDataset> datasets, const LoaderConfig& config, const Shape& shape,
               int64_t samples_consumed)
    : impl_(std::make_unique<Impl>(RowReader(std::move(datasets), config, shape), config, shape,
                                   samples_consumed)) {}

Loader::~Loader() = default;

Batch Loader::next() { return impl_->next(); }

Hash128 Loader::fingerprint() const {
  const std::string text = fmt::format("{} of {} tokens", hex(impl_->reader.sampler().fingerprint()),
                                       impl_->reader.shape().length);
  return xxh3_128(text.data(), text.size());
}

int64_t Loader::vocab_size() const {
  int64_t largest = 0;
  for (const auto& [dataset, weight] : impl_->reader.datasets())
    largest = std::max(largest, dataset->vocab_size());
  return largest;
}

const Dataset& Loader::dataset(int64_t index) const {
  return *impl_->reader.datasets().at(static_cast<size_t>(index)).dataset;
}

int64_t Loader::samples_per_epoch() const { return dataset(0).sample_count(impl_->reader.shape().length); }

}  // namespace dm::data
