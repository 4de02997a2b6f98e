#include "data/bench/loader_bench.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "data/bench/delayed_dataset.h"
#include "data/byte_source.h"
#include "data/dataset_writer.h"
#include "data/loader.h"
#include "data/staging.h"

namespace dm::data {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// Documents of 500 random bytes.
void write_random_dataset(const std::string& folder, int64_t tokens) {
  const auto tokenizer = open_tokenizer("bytes");
  DatasetWriter writer(folder, *tokenizer, int64_t{1} << 40);
  const CounterRng rng(1, "loader bench");
  std::vector<int32_t> document(500);
  for (uint64_t draw = 0; writer.token_count() < tokens; writer.end_document()) {
    for (size_t i = 0; i < document.size(); i += 8, ++draw)
      for (size_t j = i; j < std::min(i + 8, document.size()); ++j)
        document[j] = static_cast<int32_t>(rng.bits(draw) >> 8 * (j - i) & 255);
    writer.append(document.data(), static_cast<int64_t>(document.size()), true);
    stop_if_asked();
  }
  writer.finish();
}

struct ReadRate {
  int64_t reads = 0;
  double wall = 0, cpu = 0;  // tokens per second of one thread
};

ReadRate read_at_random(const Dataset& dataset, const LoaderBenchConfig& config) {
  std::atomic<int64_t> reads{0};
  std::atomic<bool> stop{false};
  std::vector<double> cpu(static_cast<size_t>(config.bench_read_threads));
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (size_t t = 0; t < cpu.size(); ++t)
    threads.emplace_back([&, t] {
      const CounterRng places(t, "places");
      std::vector<int32_t> tokens(static_cast<size_t>(config.bench_length + 1));
      int64_t done = 0;
      for (uint64_t i = 0; !stop; ++i, ++done)
        dataset.read_tokens(static_cast<int64_t>(places.below(
                                i, static_cast<uint64_t>(dataset.token_count() - config.bench_length))),
                            config.bench_length + 1, tokens.data());
      reads += done;
      cpu[t] = thread_cpu_seconds();
    });
  while (seconds_since(start) < config.bench_seconds)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const double wall_seconds = seconds_since(start) * static_cast<double>(cpu.size());
  double cpu_seconds = 0;
  for (const double seconds : cpu) cpu_seconds += seconds;
  const double tokens = static_cast<double>(reads) * static_cast<double>(config.bench_length + 1);
  return {reads, tokens / wall_seconds, tokens / cpu_seconds};
}

void warm_page_cache(const Dataset& dataset) {
  std::vector<int32_t> tokens(1 << 20);
  for (int64_t begin = 0; begin < dataset.token_count(); begin += static_cast<int64_t>(tokens.size())) {
    stop_if_asked();
    dataset.read_tokens(begin,
                        std::min<int64_t>(static_cast<int64_t>(tokens.size()), dataset.token_count() - begin),
                        tokens.data());
  }
}

void bench_reads(const std::string& path, const LoaderBenchConfig& config, LoaderBenchResult& result) {
  OpenOptions without_checks;
  without_checks.check = DataCheck::off;
  const auto checked = open_dataset(path), unchecked = open_dataset(path, without_checks);
  warm_page_cache(*checked);
  const ReadRate rate = read_at_random(*checked, config);
  result.reads = rate.reads;
  result.tokens_per_second = rate.wall;
  result.tokens_per_cpu_second = rate.cpu;
  result.unchecked_tokens_per_second = read_at_random(*unchecked, config).wall;
  // A read of n tokens at a random place touches 1 + (n - 1) / block blocks on average.
  const double block = kBlockTokens, blocks_touched = 1 + static_cast<double>(config.bench_length) / block;
  const auto token_bytes = static_cast<double>(size_bytes(token_dtype(checked->vocab_size())));
  result.bytes_per_token_checked =
      blocks_touched * block * token_bytes / static_cast<double>(config.bench_length + 1);
}

double percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

void bench_waits(const std::string& path, const LoaderBenchConfig& config, LoaderBenchResult& result) {
  const auto delay = std::chrono::microseconds(std::llround(config.bench_delay_ms * 1000));
  const auto dataset = std::make_shared<DelayedDataset>(open_dataset(path), [delay] { return delay; });
  result.reads_per_row = dataset->has_loss_mask() ? 3 : 2;  // tokens, documents, and the mask if there is one
  const double row_seconds = static_cast<double>(result.reads_per_row) * config.bench_delay_ms / 1000;
  result.reads_in_flight_needed = config.bench_rows_per_second * row_seconds;

  // Half as many again as are needed on average, and a queue that holds twice what is under way.
  LoaderConfig loader_config;
  loader_config.reader_threads = static_cast<int64_t>(std::ceil(1.5 * result.reads_in_flight_needed)) + 1;
  loader_config.prefetch_batches = 2 * blocks(loader_config.reader_threads, config.bench_rows) + 2;
  result.reader_threads = loader_config.reader_threads;
  result.prefetch_batches = loader_config.prefetch_batches;
  Loader loader({{dataset, 1.0}}, loader_config,
                {.length = config.bench_length, .global_rows = config.bench_rows}, 0);

  const auto period =
      std::chrono::duration<double>(static_cast<double>(config.bench_rows) / config.bench_rows_per_second);
  const int64_t warm_up = 3 * loader_config.prefetch_batches;
  std::vector<double> waits;
  // The queue fills first, as a run's does while the model is built. A step that was late does not make the
  // next one early.
  auto due = Clock::now() +
             std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(2 * row_seconds));
  for (int64_t step = 0; step < warm_up + config.bench_steps; ++step) {
    stop_if_asked();
    std::this_thread::sleep_until(due);
    const Batch batch = loader.next();
    if (step >= warm_up) waits.push_back(batch.wait_ms);
    due = std::max(due, Clock::now() - std::chrono::duration_cast<Clock::duration>(period)) +
          std::chrono::duration_cast<Clock::duration>(period);
  }
  std::sort(waits.begin(), waits.end());
  result.steps = config.bench_steps;
  result.reads_in_flight_most = dataset->most_in_flight();
  result.wait_ms_p50 = percentile(waits, 0.5);
  result.wait_ms_p99 = percentile(waits, 0.99);
  result.wait_ms_p999 = percentile(waits, 0.999);
  result.wait_ms_max = waits.back();
}

}  // namespace

LoaderBenchResult bench_loader(const LoaderBenchConfig& config) {
  LoaderBenchResult result;
  const auto run = [&](const std::string& path) {
    if (config.bench_seconds > 0) bench_reads(path, config, result);
    if (config.bench_steps > 0) bench_waits(path, config, result);
  };
  if (!config.bench_data.empty()) {
    run(config.bench_data);
    return result;
  }
  const Staging folder(config.bench_folder +
                       "/diffmamba-loader-bench");  // never committed: it goes with this function
  write_random_dataset(folder.path() + "/data", config.bench_tokens);
  run(folder.path() + "/data");
  return result;
}

Json LoaderBenchResult::json() const {
  Json json;
  if (reads > 0)
    json["random_reads"] = {{"reads", reads},
                            {"tokens_per_second_per_thread", tokens_per_second},
                            {"tokens_per_cpu_second", tokens_per_cpu_second},
                            {"tokens_per_second_per_thread_unchecked", unchecked_tokens_per_second},
                            {"bytes_checked_per_token", bytes_per_token_checked}};
  if (steps > 0)
    json["late_reads"] = {
        {"steps", steps},
        {"reader_threads", reader_threads},
        {"prefetch_batches", prefetch_batches},
        {"reads_per_row", reads_per_row},
        {"reads_in_flight_needed", reads_in_flight_needed},
        {"reads_in_flight_most", reads_in_flight_most},
        {"wait_ms",
         {{"p50", wait_ms_p50}, {"p99", wait_ms_p99}, {"p99.9", wait_ms_p999}, {"max", wait_ms_max}}}};
  return json;
}

std::string LoaderBenchResult::text() const {
  std::string text;
  if (reads > 0)
    text += fmt::format(
        "random reads, page cache, checked: {:.0f} M tokens/s per thread ({:.0f} M per second of its CPU "
        "time; {:.1f} bytes hashed a token)\n"
        "random reads, page cache, --data-check off: {:.0f} M tokens/s per thread\n",
        tokens_per_second / 1e6, tokens_per_cpu_second / 1e6, bytes_per_token_checked,
        unchecked_tokens_per_second / 1e6);
  if (steps > 0)
    text += fmt::format(
        "late reads: wait p50 {:.3f} ms, p99 {:.3f} ms, p99.9 {:.3f} ms, max {:.3f} ms over {} steps\n"
        "            {:.0f} reads in flight needed ({} a row), {} seen with {} reader threads and {} batches "
        "read ahead\n",
        wait_ms_p50, wait_ms_p99, wait_ms_p999, wait_ms_max, steps, reads_in_flight_needed, reads_per_row,
        reads_in_flight_most, reader_threads, prefetch_batches);
  return text;
}

}  // namespace dm::data
