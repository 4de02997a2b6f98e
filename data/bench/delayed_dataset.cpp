#include "data/bench/delayed_dataset.h"

#include <thread>

namespace dm::data {

DelayedDataset::Flight::Flight(const DelayedDataset& dataset_) : dataset(dataset_) {
  ++dataset.reads_;
  const int64_t now = ++dataset.in_flight_;
  for (int64_t most = dataset.most_in_flight_;
       now > most && !dataset.most_in_flight_.compare_exchange_weak(most, now);) {
  }
  std::this_thread::sleep_for(dataset.delay_());
}

}  // namespace dm::data
