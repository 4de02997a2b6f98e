// Every collective on 1 to 4 ranks, at counts that divide nothing, with sums that are exact, so that results
// are compared with ==; and the same with messages of a few bytes, so that every one is split.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/mpi_environment.h"

namespace dm::dist {
namespace {

constexpr int64_t kCounts[] = {0, 1,    2,    3,
                               5, 1023, 4097, 30011};  // below and above what an all_reduce gathers at once

class CollectivesTest : public testing::TestWithParam<int64_t> {
 protected:
  std::unique_ptr<Collectives> group = test::mpi().make_world_group(GetParam());
  const int64_t rank = group->rank();
  const int64_t size = group->size();
};

/// Small whole numbers, different for every rank and place: their sums are exact in every type tested.
template <class T>
std::vector<T> numbers(int64_t rank, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>((i * 7 + rank * 13) % 29);
  return values;
}

template <class T>
T expected(Reduce op, int64_t size, int64_t i) {
  T result = numbers<T>(0, i + 1)[i];
  for (int64_t r = 1; r < size; ++r) {
    const T value = static_cast<T>((i * 7 + r * 13) % 29);
    result = op == Reduce::sum   ? static_cast<T>(result + value)
             : op == Reduce::max ? std::max(result, value)
                                 : std::min(result, value);
  }
  return result;
}

template <class T>
void check_all_reduce(Collectives& group) {
  for (const int64_t count : kCounts)
    for (const Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
      auto data = numbers<T>(group.rank(), count);
      group.all_reduce(data.data(), count, dtype_of<T>(), op);
      int64_t wrong = 0;
      for (int64_t i = 0; i < count; ++i) wrong += !(data[i] == expected<T>(op, group.size(), i % 29));
      EXPECT_EQ(wrong, 0) << name(dtype_of<T>()) << " count " << count;
    }
}

TEST_P(CollectivesTest, AllReduceOfEveryType) {
  check_all_reduce<uint8_t>(*group);
  check_all_reduce<uint16_t>(*group);
  check_all_reduce<uint32_t>(*group);
  check_all_reduce<uint64_t>(*group);
  check_all_reduce<int32_t>(*group);
  check_all_reduce<int64_t>(*group);
  check_all_reduce<float>(*group);
  check_all_reduce<double>(*group);
}

TEST_P(CollectivesTest, ReduceScatterApartAndInPlace) {
  for (const int64_t count : kCounts) {
    const auto input = numbers<double>(rank, size * count);
    std::vector<double> apart(count, -1), in_place = input;
    auto first = group->reduce_scatter(input.data(), apart.data(), count, DType::f64, Reduce::sum);
    auto second = group->reduce_scatter(in_place.data(), in_place.data() + rank * count, count, DType::f64,
                                        Reduce::sum);
    second->wait();  // out of order on purpose: two are in flight
    first->wait();
    first->wait();  // again: nothing to do
    for (int64_t i = 0; i < count; ++i) {
      const double want = expected<double>(Reduce::sum, size, (rank * count + i) % 29);
      ASSERT_EQ(apart[i], want) << "count " << count << " element " << i;
      ASSERT_EQ(in_place[rank * count + i], want) << "count " << count << " element " << i;
    }
  }
}

TEST_P(CollectivesTest, AllGatherApartAndInPlace) {
  for (const int64_t count : kCounts) {
    const auto input = numbers<int32_t>(rank, count);
    std::vector<int32_t> apart(size * count, -1), in_place(size * count, -1);
    std::copy(input.begin(), input.end(), in_place.begin() + rank * count);
    auto first = group->all_gather(input.data(), apart.data(), count, DType::i32);
    auto second = group->all_gather(in_place.data() + rank * count, in_place.data(), count, DType::i32);
    first->wait();
    second->wait();
    for (int64_t r = 0; r < size; ++r) {
      const auto piece = numbers<int32_t>(r, count);
      EXPECT_TRUE(std::equal(piece.begin(), piece.end(), apart.begin() + r * count))
          << "count " << count << " rank " << r;
    }
    EXPECT_EQ(apart, in_place);
  }
}

TEST_P(CollectivesTest, BroadcastFromEveryRoot) {
  for (const int64_t count : kCounts)
    for (int64_t root = 0; root < size; ++root) {
      auto data = numbers<uint64_t>(rank, count);
      group->broadcast(data.data(), count, DType::u64, root);
      EXPECT_EQ(data, numbers<uint64_t>(root, count)) << "count " << count << " root " << root;
    }
}

TEST_P(CollectivesTest, SendAndReceiveRoundTheRing) {
  const int64_t next = (rank + 1) % size, previous = (rank + size - 1) % size;
  for (const int64_t count : kCounts) {
    const auto out = numbers<float>(rank, count);
    std::vector<float> in(count, -1);
    auto receiving = group->receive(in.data(), count, DType::f32, previous);
    auto sending = group->send(out.data(), count, DType::f32, next);
    group->barrier();  // a collective between them must not take their messages
    double sum = group->all_sum(1.0);
    EXPECT_EQ(sum, static_cast<double>(size));
    receiving->wait();
    sending->wait();
    EXPECT_EQ(in, numbers<float>(previous, count)) << "count " << count;
  }
}

TEST_P(CollectivesTest, SumsAreThoseOfRankOrderWhateverTheRoute) {
  // Values of very different size: any other order gives other bits. One long sum takes the exchange, its
  // parts the gather.
  const CounterRng rng(11, "collectives");
  const int64_t count = 20000, part = 250;
  const auto value = [&](int64_t r, int64_t i) {
    return static_cast<float>(std::exp(rng.uniform(r * count + i, -20, 20)));
  };
  std::vector<float> whole(count), parts(count), truth(count);
  for (int64_t i = 0; i < count; ++i) {
    whole[i] = parts[i] = value(rank, i);
    truth[i] = value(0, i);
    for (int64_t r = 1; r < size; ++r) truth[i] += value(r, i);
  }
  group->all_reduce(whole.data(), count, DType::f32, Reduce::sum);
  for (int64_t i = 0; i < count; i += part)
    group->all_reduce(parts.data() + i, part, DType::f32, Reduce::sum);
  EXPECT_EQ(std::memcmp(whole.data(), truth.data(), count * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(parts.data(), truth.data(), count * sizeof(float)), 0);
}

TEST_P(CollectivesTest, HelpersAgree) {
  EXPECT_EQ(group->all_sum(rank + 0.5), size * (size - 1) / 2.0 + size * 0.5);
  EXPECT_EQ(group->all_max(static_cast<double>(-rank)), 0.0);
  EXPECT_EQ(group->all_max(rank + (int64_t{1} << 60)), size - 1 + (int64_t{1} << 60))
      << "more than a double holds";
  EXPECT_TRUE(group->all_agree(true));
  EXPECT_FALSE(group->all_agree(rank != size - 1));
  EXPECT_TRUE(std::isnan(group->all_max(rank == size / 2 ? std::numeric_limits<double>::quiet_NaN() : 1.0)));
}

TEST_P(CollectivesTest, GatherTextOfUnequalAndEmptyTexts) {
  const auto text_of = [](int64_t r) {
    return r % 2 == 1 ? std::string() : std::string(r * 1000 + 3, static_cast<char>('a' + r)) + '\0';
  };
  const auto texts = group->gather_text(text_of(rank));
  ASSERT_EQ(static_cast<int64_t>(texts.size()), size);
  for (int64_t r = 0; r < size; ++r) EXPECT_EQ(texts[r], text_of(r));
  EXPECT_EQ(group->gather_text(""), std::vector<std::string>(size));
}

TEST_P(CollectivesTest, PendingThatNobodyWaitsForIsWaitedForByItsDestructor) {
  const auto input = numbers<int64_t>(rank, 4097);
  std::vector<int64_t> output(size * 4097, -1);
  { auto pending = group->all_gather(input.data(), output.data(), 4097, DType::i64); }
  for (int64_t r = 0; r < size; ++r) ASSERT_EQ(output[r * 4097 + 4096], numbers<int64_t>(r, 4097)[4096]);
}

TEST_P(CollectivesTest, GroupsDoNotTakeEachOthersMessages) {
  const auto other = test::mpi().make_world_group(GetParam());
  const int64_t a = rank, b = 100 + rank;
  std::vector<int64_t> first(size), second(size);
  // Ranks start the two in opposite order; only separate communicators keep them apart.
  std::unique_ptr<Pending> p, q;
  if (rank % 2 == 0) p = group->all_gather(&a, first.data(), 1, DType::i64);
  q = other->all_gather(&b, second.data(), 1, DType::i64);
  if (rank % 2 == 1) p = group->all_gather(&a, first.data(), 1, DType::i64);
  p->wait();
  q->wait();
  for (int64_t r = 0; r < size; ++r) {
    EXPECT_EQ(first[r], r);
    EXPECT_EQ(second[r], 100 + r);
  }
}

TEST_P(CollectivesTest, ARankOutsideTheGroupIsABug) {
  try {
    group->send(&rank, 1, DType::i64, size);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::internal);
    EXPECT_NE(std::string(error.what()).find("MPI refused a call"), std::string::npos) << error.what();
  }
}

std::string parameter_name(const testing::TestParamInfo<int64_t>& info) {
  return info.param == kMessageLimitBytes ? "WholeMessages" : "SplitMessages";
}
INSTANTIATE_TEST_SUITE_P(Limit, CollectivesTest, testing::Values(kMessageLimitBytes, int64_t{1000}),
                         parameter_name);

}  // namespace
}  // namespace dm::dist
