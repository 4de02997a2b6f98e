#include "checkpoints/boxes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "core/rng.h"

namespace dm::checkpoints {
namespace {

using Shape = std::vector<int64_t>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// The row-major positions of a box's elements.
std::vector<int64_t> positions(const Shape& shape, const Box& box) {
  std::vector<int64_t> flat;
  for (int64_t i = 0; i < box.count(); ++i) {
    int64_t rest = i, position = 0, stride = 1;
    for (size_t d = shape.size(); d-- > 0; rest /= box.shape[d], stride *= shape[d])
      position += (box.offset[d] + rest % box.shape[d]) * stride;
    flat.push_back(position);
  }
  return flat;
}

TEST(BoxesOfRange, OfAMatrixArePartRowWholeRowsPartRow) {
  EXPECT_THAT(boxes_of_range({5, 4}, 2, 18),
              ElementsAre(Box{{0, 2}, {1, 2}}, Box{{1, 0}, {3, 4}}, Box{{4, 0}, {1, 2}}));
  EXPECT_THAT(boxes_of_range({5, 4}, 4, 12), ElementsAre(Box{{1, 0}, {2, 4}}));
  EXPECT_THAT(boxes_of_range({5, 4}, 5, 7), ElementsAre(Box{{1, 1}, {1, 2}}));
  EXPECT_THAT(boxes_of_range({5, 4}, 3, 5), ElementsAre(Box{{0, 3}, {1, 1}}, Box{{1, 0}, {1, 1}}));
  EXPECT_THAT(boxes_of_range({7}, 2, 5), ElementsAre(Box{{2}, {3}}));
  EXPECT_THAT(boxes_of_range({}, 0, 1), ElementsAre(Box{}));
  EXPECT_THAT(boxes_of_range({}, 0, 0), IsEmpty());
  EXPECT_THAT(boxes_of_range({5, 4}, 8, 8), IsEmpty());
  EXPECT_THAT(boxes_of_range({0, 3}, 0, 0), IsEmpty());
}

TEST(BoxesOfRange, ConvolutionWeightsCountAsMatrices) {
  for (int64_t begin = 0; begin <= 24; ++begin)
    for (int64_t end = begin; end <= 24; ++end) EXPECT_LE(boxes_of_range({6, 1, 4}, begin, end).size(), 3u);
}

TEST(BoxesOfRange, HoldTheRangeInItsOrderForEveryRange) {
  for (const Shape& shape : {Shape{7}, {3, 4}, {4, 1, 3}, {1, 5}, {5, 1}, {2, 3, 4}, {2, 2, 2, 3}}) {
    const int64_t count = Box{{}, shape}.count();
    for (int64_t begin = 0; begin <= count; ++begin)
      for (int64_t end = begin; end <= count; ++end) {
        std::vector<int64_t> found, expected(static_cast<size_t>(end - begin));
        std::iota(expected.begin(), expected.end(), begin);
        for (const Box& box : boxes_of_range(shape, begin, end)) {
          ASSERT_TRUE(lies_inside(box, shape)) << text(box);
          for (const int64_t position : positions(shape, box)) found.push_back(position);
        }
        ASSERT_EQ(found, expected) << begin << " .. " << end;
      }
  }
}

TEST(Boxes, BytesAreBoundedAndNeverOverflow) {
  const int64_t big = int64_t{1} << 62;
  EXPECT_EQ(checked_bytes({3, 4}, 8), 96);
  EXPECT_EQ(checked_bytes({}, 4), 4);
  EXPECT_EQ(checked_bytes({0, 4}, 4), 0);
  EXPECT_EQ(checked_bytes({int64_t{1} << 57}, 8), kMaxTensorBytes);
  EXPECT_FALSE(checked_bytes({(int64_t{1} << 57) + 1}, 8));
  for (const Shape& shape : {Shape{-1},
                             {big, 2},
                             {big, big},
                             {big, big, 4},
                             {0, big, big},
                             {big, big, 0},
                             {3, -1, 0},
                             Shape(9, 1)})
    EXPECT_FALSE(checked_bytes(shape, 4));
}

TEST(Boxes, InsideMeansWhollyInsideAndNotEmpty) {
  EXPECT_TRUE(lies_inside({{1, 0}, {2, 4}}, {3, 4}));
  EXPECT_TRUE(lies_inside({}, {}));
  const int64_t huge = INT64_MAX;
  for (const Box& box : {Box{{2, 0}, {2, 4}},
                         {{-1, 0}, {2, 4}},
                         {{0, 0}, {0, 4}},
                         {{0, 0}, {-1, 4}},
                         {{0}, {3}},
                         {{0, 0, 0}, {1, 1, 1}},
                         {{huge, 0}, {2, 4}},
                         {{2, 0}, {huge, 4}},
                         {{0, 0}, {3}},
                         {}})
    EXPECT_FALSE(lies_inside(box, {3, 4})) << text(box);
}

TEST(Boxes, TextOfWhatIsNoBoxIsTextToo) {
  EXPECT_EQ(text({{1, 2}, {3, 4}}), "[1:4, 2:6]");
  EXPECT_EQ(text({}), "[]");
  EXPECT_EQ(text({{1}, {3, 4}}), "[1:4, 0:4]");
  EXPECT_EQ(text({{1, 2}, {3}}), "[1:4, 2:2]");
  EXPECT_EQ(text({{INT64_MAX}, {2}}), "[9223372036854775807:9223372036854775807]");
}

TEST(Boxes, Intersect) {
  EXPECT_EQ(intersect({{0, 0}, {4, 4}}, {{2, 3}, {5, 5}}), (Box{{2, 3}, {2, 1}}));
  EXPECT_FALSE(intersect({{0, 0}, {4, 4}}, {{4, 0}, {1, 4}}));
  EXPECT_FALSE(intersect({{0, 0}, {4, 4}}, {{0, 4}, {4, 1}}));
  EXPECT_EQ(intersect({}, {}), Box{});
}

TEST(Boxes, PartitionNamesWhatIsWrong) {
  EXPECT_EQ(partition_problem({4, 4}, {{{0, 0}, {2, 4}}, {{2, 0}, {2, 2}}, {{2, 2}, {2, 2}}}), "");
  EXPECT_EQ(partition_problem({}, {Box{}}), "");
  EXPECT_EQ(partition_problem({0, 4}, {}), "");
  EXPECT_THAT(partition_problem({}, {}), HasSubstr("hold 0 of its 1 elements"));
  EXPECT_THAT(partition_problem({}, {Box{}, Box{}}), HasSubstr("overlap"));
  EXPECT_THAT(partition_problem({4, 4}, {{{0, 0}, {2, 4}}, {{2, 0}, {1, 4}}}),
              HasSubstr("hold 12 of its 16 elements"));
  EXPECT_THAT(partition_problem({4, 4}, {{{0, 0}, {3, 4}}, {{2, 0}, {1, 4}}}),
              HasSubstr("pieces [0:3, 0:4] and [2:3, 0:4] overlap"));
  EXPECT_THAT(partition_problem({4, 4}, {{{0, 0}, {4, 3}}, {{1, 2}, {1, 2}}}), HasSubstr("overlap"));
  std::vector<Box> scattered;  // one column each, all of them starting at row 0: what no layout makes
  for (int64_t i = 0; i < 20'000; ++i) scattered.push_back({{0, i}, {2, 1}});
  EXPECT_THAT(partition_problem({2, 20'000}, scattered), HasSubstr("too many"));
}

TEST(Boxes, RunsCopyExactlyTheCommonPart) {
  const CounterRng rng(3, "runs");
  uint64_t draw = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const size_t dims = rng.below(draw++, 4);
    Box source, target;
    for (size_t d = 0; d < dims; ++d) {
      for (Box* box : {&source, &target}) {
        box->offset.push_back(static_cast<int64_t>(rng.below(draw++, 3)));
        box->shape.push_back(1 + static_cast<int64_t>(rng.below(draw++, 4)));
      }
    }
    const auto part = intersect(source, target);
    if (!part) continue;
    const Shape universe(dims, 8);
    const auto at_source = positions(universe, source), at_target = positions(universe, target);
    std::vector<int64_t> copied(at_target.size(), -1);
    int64_t last = -1;
    for_each_run(*part, source, target, [&](int64_t from, int64_t to, int64_t count) {
      EXPECT_GT(from, last);
      last = from;
      for (int64_t i = 0; i < count; ++i)
        copied.at(static_cast<size_t>(to + i)) = at_source.at(static_cast<size_t>(from + i));
    });
    const auto common = positions(universe, *part);
    for (size_t i = 0; i < copied.size(); ++i) {
      const bool wanted = std::find(common.begin(), common.end(), at_target[i]) != common.end();
      ASSERT_EQ(copied[i], wanted ? at_target[i] : -1) << text(source) << " to " << text(target);
    }
  }
}

TEST(Boxes, RunsAreAsLongAsTheyCanBe) {
  int runs = 0;
  for_each_run({{2, 0}, {3, 8}}, {{0, 0}, {9, 8}}, {{2, 0}, {3, 8}}, [&](int64_t, int64_t, int64_t count) {
    ++runs;
    EXPECT_EQ(count, 24);
  });
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace dm::checkpoints
