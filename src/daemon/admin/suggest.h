#pragma once
// "Did you mean": the nearest of the words that would have been right.

#include <span>
#include <string>
#include <string_view>

namespace rnbd::daemon {

std::size_t edit_distance(std::string_view a, std::string_view b);
// The nearest candidate, or "" when none is near enough to be meant.
std::string nearest(std::string_view word, std::span<const std::string_view> candidates);
// "did you mean 'x'?", and "one of: a, b, c" when nothing is near or they are few.
std::string suggestion(std::string_view word, std::span<const std::string_view> candidates);
std::string join(std::span<const std::string_view> words, std::string_view separator = ", ");

}  // namespace rnbd::daemon
