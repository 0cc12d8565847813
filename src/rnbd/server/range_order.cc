#include "rnbd/server/range_order.h"

#include <algorithm>

#include "base/assert.h"

namespace rnbd::server {
namespace {

using Node = RangeOrder::Node;

// Ranges may begin at the same byte; arrival makes every key unique.
bool before(const Node& a, const Node& b) {
  return a.begin != b.begin ? a.begin < b.begin : a.arrival < b.arrival;
}

// splitmix64: what keeps the tree flat whatever ranges a client chooses.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

void update(Node& node) {
  node.max_end = node.end;
  if (node.left != nullptr) node.max_end = std::max(node.max_end, node.left->max_end);
  if (node.right != nullptr) node.max_end = std::max(node.max_end, node.right->max_end);
}

// Cuts `tree` into what comes before `key` and what comes after it.
void split(Node* tree, const Node& key, Node*& left, Node*& right) {
  if (tree == nullptr) {
    left = right = nullptr;
    return;
  }
  if (before(*tree, key)) {
    left = tree;
    split(tree->right, key, tree->right, right);
  } else {
    right = tree;
    split(tree->left, key, left, tree->left);
  }
  update(*tree);
}

// One tree of two, all of `left` being before all of `right`.
Node* merge(Node* left, Node* right) {
  if (left == nullptr) return right;
  if (right == nullptr) return left;
  if (left->priority > right->priority) {
    left->right = merge(left->right, right);
    update(*left);
    return left;
  }
  right->left = merge(left, right->left);
  update(*right);
  return right;
}

Node* insert(Node* tree, Node& node) {
  if (tree == nullptr) {
    update(node);
    return &node;
  }
  if (node.priority > tree->priority) {
    split(tree, node, node.left, node.right);
    update(node);
    return &node;
  }
  Node*& side = before(node, *tree) ? tree->left : tree->right;
  side = insert(side, node);
  update(*tree);
  return tree;
}

Node* erase(Node* tree, Node& node) {
  RNBD_ASSERT(tree != nullptr);
  if (tree == &node) return merge(node.left, node.right);
  Node*& side = before(node, *tree) ? tree->left : tree->right;
  side = erase(side, node);
  update(*tree);
  return tree;
}

template <class F>
void for_each_overlap(Node* tree, const Node& range, F&& f) {
  if (tree == nullptr || tree->max_end <= range.begin) return;
  for_each_overlap(tree->left, range, f);
  if (tree->begin >= range.end) return;
  if (tree->end > range.begin) f(*tree);
  for_each_overlap(tree->right, range, f);
}

}  // namespace

RangeOrder::~RangeOrder() { RNBD_ASSERT(root_ == nullptr); }

bool RangeOrder::enter(Node& node) {
  RNBD_ASSERT(node.begin < node.end);
  const std::lock_guard lock(mutex_);
  node.next = node.left = node.right = nullptr;
  node.arrival = ++arrivals_;
  node.priority = mix(node.arrival);
  node.blockers = 0;
  for_each_overlap(root_, node, [&](Node&) { ++node.blockers; });
  root_ = insert(root_, node);
  return node.blockers == 0;
}

RangeOrder::Node* RangeOrder::leave(Node& node) {
  const std::lock_guard lock(mutex_);
  RNBD_ASSERT(node.blockers == 0);
  root_ = erase(root_, node);
  Node* ready = nullptr;
  for_each_overlap(root_, node, [&](Node& other) {
    RNBD_ASSERT(other.arrival > node.arrival);  // it waited for us
    if (--other.blockers != 0) return;
    Node** place = &ready;  // few, so keep them sorted by walking
    while (*place != nullptr && (*place)->arrival < other.arrival) place = &(*place)->next;
    other.next = *place;
    *place = &other;
  });
  return ready;
}

}  // namespace rnbd::server
