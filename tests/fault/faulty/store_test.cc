#include "faulty/store.h"

#include <gtest/gtest.h>

namespace rnbd::fault {
namespace {

constexpr std::size_t kPages = 64;

struct StoreTest : testing::Test {
  Store store{kPages * Store::kPage};

  void write(std::size_t page, char value) {
    const std::vector<std::byte> bytes(Store::kPage, static_cast<std::byte>(value));
    store.write(page * Store::kPage, bytes);
  }
  char read(std::size_t page) {
    std::byte byte{};
    store.read(page * Store::kPage + 17, {&byte, 1});
    return static_cast<char>(byte);
  }
  void write_all(char value) {
    for (std::size_t page = 0; page < kPages; ++page) write(page, value);
  }
  std::size_t count(char value) {
    std::size_t found = 0;
    for (std::size_t page = 0; page < kPages; ++page)
      if (read(page) == value) ++found;
    return found;
  }
};

TEST_F(StoreTest, ReadsSeeWritesBeforeAnyFlush) {
  write(1, 'a');
  EXPECT_EQ(read(1), 'a');
  store.zero(Store::kPage, Store::kPage);
  EXPECT_EQ(read(1), 0);
}

TEST_F(StoreTest, APartOfAPageKeepsTheRest) {
  write(1, 'a');
  store.flush();
  const std::byte byte{'b'};
  store.write(Store::kPage, {&byte, 1});
  EXPECT_EQ(read(1), 'a');
  std::byte first{};
  store.read(Store::kPage, {&first, 1});
  EXPECT_EQ(first, byte);
}

TEST_F(StoreTest, APowerCutTakesSomeOfWhatWasNotFlushedAndNothingElse) {
  write_all('a');
  store.flush();
  write_all('b');
  store.power_cut(1);
  EXPECT_GT(count('a'), 0U);
  EXPECT_GT(count('b'), 0U);
  EXPECT_EQ(count('a') + count('b'), kPages);
  EXPECT_EQ(store.unstable_pages(), 0U);
}

TEST_F(StoreTest, WhatAFailedFlushForgotIsReadableAndNoLaterFlushSavesIt) {
  write_all('a');
  store.flush();
  write_all('b');
  store.flush_failed();
  store.flush();
  EXPECT_EQ(count('b'), kPages);
  store.power_cut(1);
  EXPECT_EQ(count('a'), kPages);
}

TEST_F(StoreTest, WritingAgainAfterAFailedFlushSaves) {
  write(3, 'a');
  store.flush_failed();
  write(3, 'b');
  store.flush();
  store.power_cut(1);
  EXPECT_EQ(read(3), 'b');
}

TEST_F(StoreTest, ARangeCanBeMadeStableAlone) {
  write_all('a');
  store.flush_range(2 * Store::kPage, Store::kPage);
  EXPECT_EQ(store.unstable_pages(), kPages - 1);
}

}  // namespace
}  // namespace rnbd::fault
