// Own threads over fixed partitions: the partition depends on the problem only,
// so that sums come out with the same bits on any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace ranef {

// Calls task(chunk) for chunk = 0 .. chunks-1 on up to `threads` threads.
// task must not throw.
template <class Task>
void for_chunks(int chunks, int threads, Task&& task) {
    const int used = std::min(threads, chunks);
    if (used <= 1) {
        for (int c = 0; c < chunks; ++c) task(c);
        return;
    }
    auto run = [&](int t) {
        const int first = static_cast<int>(static_cast<long long>(chunks) * t / used);
        const int last = static_cast<int>(static_cast<long long>(chunks) * (t + 1) / used);
        for (int c = first; c < last; ++c) task(c);
    };
    // where no further thread can be had, this one does its share
    std::vector<std::thread> workers;
    int started = 1;
    try {
        workers.reserve(used - 1);
        for (; started < used; ++started) workers.emplace_back(run, started);
    } catch (const std::exception&) {
    }
    run(0);
    for (int t = started; t < used; ++t) run(t);
    for (auto& w : workers) w.join();
}

// Calls task(i) for i = 0 .. tasks-1, each on whichever thread is free. For
// tasks that write to places of their own: the result does not depend on who
// did what.
template <class Task>
void for_tasks(int tasks, int threads, Task&& task) {
    std::atomic<int> next{0};
    for_chunks(std::min(tasks, threads), threads, [&](int) {
        for (int i = next++; i < tasks; i = next++) task(i);
    });
}

// Boundaries of `chunks` nearly equal parts of 0 .. n.
inline std::vector<std::size_t> partition(std::size_t n, int chunks) {
    std::vector<std::size_t> bounds(static_cast<std::size_t>(chunks) + 1);
    for (int c = 0; c <= chunks; ++c) bounds[c] = n * c / chunks;
    return bounds;
}

} // namespace ranef
