#pragma once
// A doubly linked list whose links live in the elements: no allocation, O(1) removal.
// A node unlinks itself when destroyed, so a list never holds a dead element. One thread.

#include <cstddef>

#include "base/assert.h"

namespace rnbd {

class ListNode {
 public:
  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = nullptr;
  }

 private:
  template <class T>
  friend class IntrusiveList;
  ListNode* next_ = nullptr;
  ListNode* previous_ = nullptr;
};

// T derives from ListNode (privately reachable by static_cast from the list's user).
template <class T>
class IntrusiveList {
 public:
  IntrusiveList() { head_.next_ = head_.previous_ = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    clear();
    head_.next_ = head_.previous_ = nullptr;  // head_ itself is in no list
  }

  bool empty() const { return head_.next_ == &head_; }
  T& front() {
    RNBD_ASSERT(!empty());
    return *static_cast<T*>(head_.next_);
  }
  void push_back(T& element) { insert(element, head_.previous_, &head_); }
  void push_front(T& element) { insert(element, &head_, head_.next_); }
  T& pop_front() {
    T& element = front();
    static_cast<ListNode&>(element).unlink();
    return element;
  }
  void clear() {
    while (!empty()) head_.next_->unlink();
  }
  // Appends all of `other`, which is empty afterwards.
  void splice_back(IntrusiveList& other) {
    while (!other.empty()) push_back(other.pop_front());
  }
  // Calls f(T&) on each element; f may unlink the element it was given, but no other.
  template <class F>
  void for_each(F&& f) {
    for (ListNode* node = head_.next_; node != &head_;) {
      ListNode* next = node->next_;
      f(*static_cast<T*>(node));
      node = next;
    }
  }
  std::size_t count() const {
    std::size_t n = 0;
    for (const ListNode* node = head_.next_; node != &head_; node = node->next_) ++n;
    return n;
  }

 private:
  static void insert(ListNode& node, ListNode* before, ListNode* after) {
    RNBD_ASSERT(!node.linked());
    node.previous_ = before;
    node.next_ = after;
    before->next_ = &node;
    after->previous_ = &node;
  }
  ListNode head_;
};

}  // namespace rnbd
