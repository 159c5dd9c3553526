// Own threads over fixed partitions: the partition depends on the problem only,
// so that sums come out with the same bits on any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "watch.hpp"

namespace ranef {

// Thrown by a task that waits for another's work where that failed: the other's exception counts.
struct Abandoned {};

// Threads at work on one thing. The first exception of any of them is kept, the others then
// leave off, and whoever started them gets it once all have ended.
class Region {
  public:
    ~Region() { end(); }

    bool failed() const { return failed_.load(std::memory_order_relaxed); }
    void fail(std::exception_ptr error) noexcept {
        const std::lock_guard<std::mutex> guard(mutex_);
        if (!error_) error_ = std::move(error);
        failed_ = true;
    }

    void abandon() noexcept { failed_ = true; }

    // Runs share(1) .. share(used - 1) on further threads; returns how many shares, that of
    // this thread counted, are looked after: fewer where no further thread can be had.
    template <class Share>
    int start(int used, const Share& share) {
        Watch* const watch = Watch::current();
        running_ = used - 1;
        int started = 1;
        try {
            workers_.reserve(static_cast<std::size_t>(used) - 1);
            for (; started < used; ++started)
                workers_.emplace_back([this, watch, started, &share] {
                    if (ready_for_exceptions()) {
                        const Watch::Guard follow(watch, false);
                        share(started);
                    } else
                        short_of_memory_ = failed_ = true;
                    leave(1);
                });
        } catch (const std::exception&) { // too little memory, or too many threads
            leave(used - started);
        }
        return started;
    }

    // Waits for all, and throws what one of them threw.
    void finish() {
        await();
        end();
        if (error_) std::rethrow_exception(error_);
        if (short_of_memory_) throw std::bad_alloc();
    }

  private:
    // A thread's first exception takes a little memory, and ends the process where there is
    // none left: it is taken at once, if a try shows that it can be had.
    static bool ready_for_exceptions() noexcept {
        void* tried[16];
        bool had = true;
        for (int i = 0; i < 16; ++i) had = (tried[i] = std::malloc(16 * (i + 1))) && had;
        for (void* one : tried) std::free(one);
        return had && std::uncaught_exceptions() == 0;
    }

    void leave(int count) noexcept {
        const std::lock_guard<std::mutex> guard(mutex_);
        running_ -= count;
        ended_.notify_all();
    }
    void await() {
        std::unique_lock<std::mutex> lock(mutex_);
        const auto over = [&] { return running_ == 0; };
        while (!ended_.wait_for(lock, Watch::often, over)) {
            lock.unlock();
            try {
                Watch::poll();
            } catch (...) {
                fail(std::current_exception());
            }
            lock.lock();
        }
    }
    void end() noexcept {
        for (auto& w : workers_)
            if (w.joinable()) w.join();
    }

    std::mutex mutex_;
    std::condition_variable ended_;
    int running_ = 0;
    std::atomic<bool> failed_{false}, short_of_memory_{false};
    std::exception_ptr error_;
    std::vector<std::thread> workers_;
};

// Calls task(chunk) for chunk = 0 .. chunks-1 on up to `threads` threads. Of the exceptions
// that tasks throw the first is thrown here, after all threads have ended; tasks that are
// not begun by then are left.
template <class Task>
void for_chunks(int chunks, int threads, Task&& task) {
    const int used = std::min(threads, chunks);
    if (used <= 1) {
        for (int c = 0; c < chunks; ++c) {
            Watch::poll();
            task(c);
        }
        return;
    }
    Region region;
    const auto share = [&](int t) noexcept {
        const int first = static_cast<int>(static_cast<long long>(chunks) * t / used);
        const int last = static_cast<int>(static_cast<long long>(chunks) * (t + 1) / used);
        try {
            for (int c = first; c < last && !region.failed(); ++c) {
                Watch::poll();
                task(c);
            }
        } catch (const Abandoned&) {
            region.abandon();
        } catch (...) {
            region.fail(std::current_exception());
        }
    };
    const int started = region.start(used, share);
    share(0);
    // where no further thread can be had, this one does its share
    for (int t = started; t < used; ++t) share(t);
    region.finish();
}

// Calls task(i) for i = 0 .. tasks-1, each on whichever thread is free. For
// tasks that write to places of their own: the result does not depend on who
// did what. A task that was taken is begun, so that others may wait for what it makes as long
// as no task throws.
template <class Task>
void for_tasks(int tasks, int threads, Task&& task) {
    std::atomic<int> next{0};
    for_chunks(std::min(tasks, threads), threads, [&](int) {
        try {
            for (int i = next++; i < tasks; i = next++) {
                task(i);
                Watch::poll();
            }
        } catch (...) {
            next = tasks; // the others are to leave off as well
            throw;
        }
    });
}

// Boundaries of `chunks` nearly equal parts of 0 .. n.
inline std::vector<std::size_t> partition(std::size_t n, int chunks) {
    std::vector<std::size_t> bounds(static_cast<std::size_t>(chunks) + 1);
    for (int c = 0; c <= chunks; ++c) bounds[c] = n * c / chunks;
    return bounds;
}

} // namespace ranef
