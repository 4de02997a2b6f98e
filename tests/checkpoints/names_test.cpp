#include "checkpoints/names.h"

#include <gtest/gtest.h>

namespace dm::checkpoints {
namespace {

constexpr const char* kNonce = "0123456789abcdef";

TEST(Names, WhatIsBuiltIsParsed) {
  for (const int64_t step :
       {int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{999999999}, int64_t{1000000000}, kMaxStep}) {
    EXPECT_EQ(parse_step_name(step_name(step)), step);
    EXPECT_EQ(parse_corrupt_name(corrupt_name(step, 0)), step);
    EXPECT_EQ(parse_corrupt_name(corrupt_name(step, 12)), step);
    EXPECT_TRUE(is_leftover_name(temporary_name(step, kNonce)));
    EXPECT_TRUE(is_leftover_name(trash_name(step, kNonce)));
  }
  EXPECT_EQ(step_name(1000), "step_000001000");
  EXPECT_EQ(parse_shard_name(shard_name(0, 1)), (std::pair<int64_t, int64_t>{0, 1}));
  EXPECT_EQ(parse_shard_name("shard-00003-of-00004.h5"), (std::pair<int64_t, int64_t>{3, 4}));
  EXPECT_EQ(parse_shard_name(shard_name(99998, 99999)), (std::pair<int64_t, int64_t>{99998, 99999}));
  EXPECT_TRUE(is_leftover_name(probe_name(17)));
  EXPECT_TRUE(is_run_leftover_name(new_lock_name(kNonce)));
  EXPECT_TRUE(is_run_leftover_name("latest.tmp-4711"));
  EXPECT_TRUE(is_run_leftover_name("failures.json.tmp-4711"));
  EXPECT_TRUE(is_run_leftover_name("memory.tmp-4711"));
  EXPECT_TRUE(is_memory_name(memory_name(kNonce, "node-7.cluster"), "node-7.cluster"));
  EXPECT_EQ(make_nonce().size(), 16u);
  EXPECT_NE(make_nonce(), make_nonce());
  for (const char* name : {"a", "A_log", "adamw.m/backbone.layers.0.mixer.D", "x-1", "a.b/c.d", "0"})
    EXPECT_TRUE(is_tensor_name(name)) << name;
}

TEST(Names, NothingElseIsAStep) {
  for (const char* name : {"",
                           "step_",
                           "step_1",
                           "step_00000100",
                           "step_0000001000",
                           "step_01000000000",
                           "step_-00000001",
                           "step_+00000001",
                           "step_00000100a",
                           "step_000001000 ",
                           " step_000001000",
                           "step_000001000/",
                           "step_000001000.",
                           "Step_000001000",
                           "STEP_000001000",
                           "step-000001000",
                           "step_000001000\n",
                           "step_1000000000000000",
                           "step_9999999999999999999",
                           "step_000_01000",
                           "step_0x0001000",
                           "xstep_000001000",
                           "step_000001000step_000001000",
                           "../step_000001000",
                           "step_٠٠٠٠٠١٠٠٠"})
    EXPECT_FALSE(parse_step_name(name)) << name;
  EXPECT_FALSE(parse_step_name(std::string("step_000001000\0", 15)));
}

TEST(Names, NothingElseIsAShard) {
  for (const char* name : {"", "shard", "shard-00000-of-00001", "shard-0-of-1.h5", "shard-00001-of-00001.h5",
                           "shard-00002-of-00001.h5", "shard-00000-of-00000.h5", "shard-000000-of-00001.h5",
                           "shard-00000-of-000001.h5", "shard--0001-of-00001.h5", "shard-00000-of-00001.h5 ",
                           "shard-00000-of-00001.h5.bak", "shard-00000-of-00001.hdf5",
                           "shard-00000of-00001.h5", "/shard-00000-of-00001.h5", "../shard-00000-of-00001.h5",
                           "Shard-00000-of-00001.h5", "shard-0000a-of-00001.h5"})
    EXPECT_FALSE(parse_shard_name(name)) << name;
}

TEST(Names, NothingElseIsALeftoverThatMayBeDeleted) {
  for (const char* name : {"",
                           ".",
                           "..",
                           ".tmp",
                           ".tmp-",
                           ".tmp-step_000001000",
                           ".tmp-step_000001000.",
                           ".tmp-step_000001000.0123456789abcde",
                           ".tmp-step_000001000.0123456789abcdef0",
                           ".tmp-step_000001000.0123456789ABCDEF",
                           ".tmp-step_1.0123456789abcdef",
                           "tmp-step_000001000.0123456789abcdef",
                           ".trash-step_000001000",
                           ".trash-notes.0123456789abcdef",
                           ".trash-",
                           "step_000001000",
                           "corrupt-step_000001000.0",
                           ".tmp-step_000001000.0123456789abcdef/x",
                           ".probe-",
                           ".probe-x",
                           ".probe-1.txt",
                           ".probe--1",
                           ".tmp-step_000001000-0123456789abcdef"})
    EXPECT_FALSE(is_leftover_name(name)) << name;
  for (const char* name : {"LOCK", "LOCK.", "LOCK.old", "LOCK.0123456789abcdeg", "lock.0123456789abcdef",
                           "latest", "latest.tmp-", "latest.tmp-12a", "latest.tmp", "failures.json",
                           "metrics.jsonl", "LOCK.0123456789abcdef.bak"})
    EXPECT_FALSE(is_run_leftover_name(name)) << name;
}

TEST(Names, NothingElseIsAHostsMemory) {
  for (const char* name :
       {"", "diffmamba-", "diffmamba-0123456789abcdef", "diffmamba-0123456789abcdef.",
        "diffmamba-0123456789abcdef.b", "diffmamba-0123456789abcdef.aa", "diffmamba-0123456789abcdeg.a",
        "diffmamba-123456789abcdef.a", "x0123456789abcdef.a"})
    EXPECT_FALSE(is_memory_name(name, "a")) << name;
}

TEST(Names, NothingElseIsSetAside) {
  for (const char* name : {"corrupt-step_000001000", "corrupt-step_000001000.", "corrupt-step_000001000.x",
                           "corrupt-step_000001000.00", "corrupt-000001000.0", "corrupt-step_1.0",
                           "corrupt-step_000001000.0.0", "step_000001000.0"})
    EXPECT_FALSE(parse_corrupt_name(name)) << name;
}

TEST(Names, TensorNamesAreNoPaths) {
  for (const char* name :
       {"",    "/",    "/a",   "a/",  "a/b/c", ".", "..",       "../a", "a/..", "./a",   "a/.", "...",
        "a b", "a\\b", "a\tb", "a@0", "a:b",   "ä", "params/a", "a//b", "a*",   "\"a\"", "a\n"})
    EXPECT_FALSE(is_tensor_name(name)) << name;
  EXPECT_FALSE(is_tensor_name(std::string(256, 'a')));
  EXPECT_TRUE(is_tensor_name(std::string(255, 'a')));
  EXPECT_FALSE(is_tensor_name(std::string("a\0b", 3)));
}

TEST(Names, DatasetsNeverMeet) {
  EXPECT_EQ(dataset_path("a.weight", 0, 1), "/params/a.weight");
  EXPECT_EQ(dataset_path("a.weight", 1, 3), "/params/a.weight@1");
  EXPECT_EQ(dataset_path("adamw.m/a.weight", 0, 1), "/adamw.m/a.weight");
}

}  // namespace
}  // namespace dm::checkpoints
