#pragma once
// How fast samples come: random reads from the page cache, and batches from storage that answers late. Checks
// are on.

#include <cstdint>
#include <string>

#include "core/fields.h"
#include "core/json.h"

namespace dm::data {

struct LoaderBenchConfig {
  std::string bench_data;
  std::string bench_folder = "/tmp";
  int64_t bench_tokens = 536'870'912;
  int64_t bench_length = 2048;
  double bench_seconds = 5;
  int64_t bench_read_threads = 1;
  double bench_delay_ms = 200;
  double bench_rows_per_second = 240;
  int64_t bench_rows = 8;
  int64_t bench_steps = 2000;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("bench_data", self.bench_data, "prepared dataset to read; empty: one is made and removed again",
      Affects::output);
    v("bench_folder", self.bench_folder, "where that one is made", Affects::output);
    v("bench_tokens", self.bench_tokens,
      "tokens of that one, two bytes each; take more than the processor's caches hold", Range{1e6, 1e12});
    v("bench_length", self.bench_length, "tokens of a row", Range{1, 1 << 20});
    v("bench_seconds", self.bench_seconds, "how long to read at random", Range{0, 1e4});
    v("bench_read_threads", self.bench_read_threads, "threads that read at random", Range{1, 1024});
    v("bench_delay_ms", self.bench_delay_ms, "added to every read of the second part", Range{0, 1e5});
    v("bench_rows_per_second", self.bench_rows_per_second, "how fast the second part takes rows",
      Range{0.1, 1e6});
    v("bench_rows", self.bench_rows, "rows of a batch", Range{1, 65536});
    v("bench_steps", self.bench_steps,
      "batches timed, after the first queue has been used up three times; 0: leave the part out",
      Range{0, 1e9});
  }
};

struct LoaderBenchResult {
  // Part 1: reads of length + 1 tokens at random places, from the page cache, every touched block hashed and
  // compared.
  int64_t reads = 0;
  double tokens_per_second = 0;  // of one thread, by the wall clock
  double tokens_per_cpu_second =
      0;  // of one thread, by its own processor time: what it would be on an idle machine
  double unchecked_tokens_per_second = 0;  // the same without checks
  double bytes_per_token_checked = 0;      // read and hashed for a token used

  // Part 2: batches taken at a fixed rate while every read is late.
  int64_t steps = 0;
  int64_t reader_threads = 0;
  int64_t prefetch_batches = 0;
  int64_t reads_per_row = 0;
  double reads_in_flight_needed = 0;  // rows a second x reads of a row x seconds a read
  int64_t reads_in_flight_most = 0;   // seen
  double wait_ms_p50 = 0, wait_ms_p99 = 0, wait_ms_p999 = 0, wait_ms_max = 0;

  Json json() const;
  std::string text() const;
};

LoaderBenchResult bench_loader(const LoaderBenchConfig& config);

}  // namespace dm::data
