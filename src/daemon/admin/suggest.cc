#include "daemon/admin/suggest.h"

#include <algorithm>
#include <vector>

namespace rnbd::daemon {

// Optimal string alignment: insertions, deletions, changes, and neighbours swapped.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t change = last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row.back();
}

std::string nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > 64) return {};  // nobody mistypes that much; keeps the cost bounded
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (std::string_view candidate : candidates) {
    // A word cut short is likely meant, however much of it is missing.
    bool prefix = word.size() >= 2 && candidate.starts_with(word);
    std::size_t distance = prefix ? 1 : edit_distance(word, candidate);
    if (distance >= best_distance) continue;
    best = candidate;
    best_distance = distance;
  }
  return std::string(best);
}

std::string suggestion(std::string_view word, std::span<const std::string_view> candidates) {
  constexpr std::size_t kFew = 8;  // so many are listed all the same
  std::string meant = nearest(word, candidates);
  std::string all = "one of: " + join(candidates);
  if (meant.empty()) return all;
  meant = "did you mean '" + meant + "'?";
  return candidates.size() <= kFew ? meant + " " + all : meant;
}

std::string join(std::span<const std::string_view> words, std::string_view separator) {
  std::string text;
  for (std::string_view word : words) {
    if (!text.empty()) text += separator;
    text += word;
  }
  return text;
}

}  // namespace rnbd::daemon
