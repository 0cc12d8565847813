#include "fabric/iwarp/transmitter.h"

#include <gtest/gtest.h>

#include <cstring>

#include "fabric/iwarp/receiver.h"

namespace rnbd::fabric::iwarp {
namespace {

using Bytes = std::vector<std::byte>;

Bytes pattern(std::size_t size) {
  Bytes out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 13 + (i >> 8));
  return out;
}

iovec vec(const Bytes& bytes) { return {const_cast<std::byte*>(bytes.data()), bytes.size()}; }

// Takes everything, at most `step` bytes at a time.
Bytes drain(Transmitter& out, std::size_t step = ~std::size_t{0}) {
  Bytes stream;
  for (auto pieces = out.gather(); !pieces.empty(); pieces = out.gather()) {
    const std::size_t n = std::min(step, pieces[0].iov_len);
    const auto* bytes = static_cast<const std::byte*>(pieces[0].iov_base);
    stream.insert(stream.end(), bytes, bytes + n);
    out.taken(n);
  }
  return stream;
}

std::vector<std::uint64_t> done(Transmitter& out) {
  std::vector<std::uint64_t> cookies;
  while (const auto cookie = out.pop_done()) cookies.push_back(*cookie);
  return cookies;
}

TEST(Transmitter, AWriteWithImmediateIsThreePiecesAndAShortOneIsOne) {
  Transmitter out({.depth = 4});
  const Bytes large = pattern(4096), small = pattern(100);
  const iovec large_part = vec(large), small_part = vec(small);
  out.push({.op = Work::Op::write_imm, .local = {&large_part, 1}, .remote = {}, .immediate = 1});
  ASSERT_EQ(out.gather().size(), 3U);
  EXPECT_EQ(out.gather()[0].iov_len, 16U);
  EXPECT_EQ(out.gather()[1].iov_base, large.data());
  EXPECT_EQ(out.gather()[2].iov_len, 36U);
  drain(out);
  out.push({.op = Work::Op::write_imm, .local = {&small_part, 1}, .remote = {}, .immediate = 1});
  out.push({.op = Work::Op::write_imm, .local = {}, .remote = {}, .immediate = 2});
  EXPECT_EQ(out.gather().size(), 1U);
}

TEST(Transmitter, TheStreamIsTheSameHoweverItIsTaken) {
  Bytes streams[3];
  const Bytes bytes = pattern(200001);
  const iovec parts[] = {{const_cast<std::byte*>(bytes.data()), 1},
                         {nullptr, 0},
                         {const_cast<std::byte*>(bytes.data()) + 1, 200000}};
  std::size_t steps[] = {~std::size_t{0}, 1, 977};
  for (std::size_t i = 0; i < 3; ++i) {
    Transmitter out({.depth = 64});
    for (std::uint64_t n = 1; n <= 5; ++n) {
      out.push({.op = Work::Op::write_imm,
                .local = parts,
                .remote = {.address = n << 32, .key = 7},
                .immediate = static_cast<std::uint32_t>(n),
                .cookie = n});
      out.push({.op = Work::Op::send,
                .local = std::span(parts).first(1),
                .remote = {},
                .cookie = n + 100});
    }
    streams[i] = drain(out, steps[i]);
    EXPECT_EQ(done(out), (std::vector<std::uint64_t>{1, 101, 2, 102, 3, 103, 4, 104, 5, 105}));
    EXPECT_TRUE(out.idle());
  }
  EXPECT_EQ(streams[0], streams[1]);
  EXPECT_EQ(streams[0], streams[2]);
}

TEST(Transmitter, ManySmallPartsStillMakeFramesAReceiverTakes) {
  const Bytes bytes = pattern(3000);
  std::vector<iovec> parts;
  for (std::size_t i = 0; i < bytes.size(); i += 3)
    parts.push_back({const_cast<std::byte*>(bytes.data()) + i, 3});
  Transmitter out({.crc = true, .depth = 2});
  SystemRandom random;
  IwarpDomain domain(random);
  Keys keys(domain, random, 1);
  Bytes target(3000);
  const iovec whole = vec(target);
  const RemoteSpan window = *keys.expose(0, {&whole, 1});
  out.push({.op = Work::Op::write, .local = parts, .remote = window, .cookie = 1});
  struct Nothing final : ReceiveSink {
    void on_receive(const ReceiveEvent&) override { FAIL(); }
  } sink;
  ReceiveQueue receives(1);
  Receiver receiver(keys, receives, sink, {});
  while (!out.gather().empty()) {
    EXPECT_LE(out.gather().size(), Transmitter::kBatchPieces);
    for (const iovec& piece : out.gather()) {
      receiver.feed({static_cast<const std::byte*>(piece.iov_base), piece.iov_len});
    }
    std::size_t n = 0;
    for (const iovec& piece : out.gather()) n += piece.iov_len;
    out.taken(n);
  }
  EXPECT_TRUE(receiver.between_messages());
  EXPECT_EQ(target, bytes);
}

TEST(Transmitter, ItsDepthCountsItemsUntilTheyAreDone) {
  Transmitter out({.depth = 2});
  EXPECT_TRUE(out.fits(2));
  out.push({.op = Work::Op::write_imm, .local = {}, .remote = {}, .cookie = 1});
  out.push({.op = Work::Op::write_imm, .local = {}, .remote = {}});
  EXPECT_FALSE(out.fits(1));
  drain(out);
  EXPECT_FALSE(out.fits(1));
  EXPECT_EQ(done(out), std::vector<std::uint64_t>{1});
  EXPECT_TRUE(out.fits(2));
}

TEST(Transmitter, WhatWasNotTakenCanBeHandedBackInOrder) {
  Transmitter out({.depth = 8});
  for (std::uint64_t i = 1; i <= 5; ++i)
    out.push({.op = Work::Op::write_imm, .local = {}, .remote = {}, .cookie = i});
  out.gather();
  out.taken(40);
  std::vector<std::uint64_t> rest;
  while (const auto cookie = out.pop_any()) rest.push_back(*cookie);
  EXPECT_EQ(rest, (std::vector<std::uint64_t>{1, 2, 3, 4, 5}));
}

TEST(Transmitter, FramesKeepTheSizeTheyAreGiven) {
  Transmitter out(
      {.crc = false, .tagged_payload_max = 1428, .untagged_payload_max = 1424, .depth = 1});
  const Bytes bytes = pattern(131072);
  const iovec part = vec(bytes);
  out.push({.op = Work::Op::write, .local = {&part, 1}, .remote = {}});
  const Bytes stream = drain(out);
  EXPECT_EQ(stream.size(), 131072U + 92 * 20);
  EXPECT_EQ(std::to_integer<int>(stream[0]) << 8 | std::to_integer<int>(stream[1]), 1442);
}

}  // namespace
}  // namespace rnbd::fabric::iwarp
