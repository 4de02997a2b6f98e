// Of what killed jobs leave in memory only that goes which nobody uses.

#include "dist/shared_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace dm::dist {
namespace {

TEST(SharedMemory, OnlyOrphansOfAMinuteAndMoreGo) {
  std::string folder = (std::filesystem::temp_directory_path() / "dm-shm-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const auto segment = [&](const std::string& name, int seconds_old) {
    const std::string path = folder + "/" + name;
    const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
    EXPECT_EQ(ftruncate(fd, 4096), 0);
    const timespec times[2] = {{0, UTIME_OMIT}, {time(nullptr) - seconds_old, 0}};
    EXPECT_EQ(futimens(fd, times), 0);
    return fd;
  };
  const int used = segment("vader_segment.host.0.1.0", 600);
  void* memory = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, used, 0);
  close(used);
  close(segment("vader_segment.host.0.2.0", 600));
  close(segment("vader_segment.host.0.3.0", 5));
  close(segment("something_else", 600));
  EXPECT_THAT(remove_orphaned_segments(folder), testing::ElementsAre(folder + "/vader_segment.host.0.2.0"));
  munmap(memory, 4096);
  EXPECT_THAT(remove_orphaned_segments(folder), testing::ElementsAre(folder + "/vader_segment.host.0.1.0"));
  EXPECT_TRUE(std::filesystem::exists(folder + "/vader_segment.host.0.3.0"));
  EXPECT_TRUE(std::filesystem::exists(folder + "/something_else"));
  EXPECT_TRUE(remove_orphaned_segments(folder + "/nowhere").empty());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace dm::dist
