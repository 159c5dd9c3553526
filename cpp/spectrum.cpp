#include "spectrum.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "dense.hpp"
#include "pieces.hpp"

#if defined(__GLIBC__)
#include <unistd.h>
#endif

namespace ranef {

namespace {

constexpr int most_whole = 32'000; // whose work space, 2 n^2, LAPACK can still count

// All by divide and conquer, in place.
bool whole(int n, std::vector<double>& A, Spectrum& out) {
    char job = 'V', triangle = 'L';
    int info = 0, least_work = -1, least_integers = -1, integers_size = 0;
    double size = 0;
    out.values.resize(n);
    lapack().syevd(&job, &triangle, &n, A.data(), &n, out.values.data(), &size, &least_work,
                   &integers_size, &least_integers, &info);
    if (info != 0) return false;
    int work_size = static_cast<int>(size);
    std::vector<double> work(work_size);
    std::vector<int> integers(integers_size);
    lapack().syevd(&job, &triangle, &n, A.data(), &n, out.values.data(), work.data(), &work_size,
                   integers.data(), &integers_size, &info);
    out.vectors.swap(A);
    return info == 0;
}

// The largest by their numbers, from the tridiagonal matrix.
bool largest(int n, int count, std::vector<double>& A, Spectrum& out) {
    char job = 'V', range = 'I', triangle = 'L';
    int info = 0, ask = -1, integers_size = 0, first = n - count + 1, found = 0;
    double size = 0, none = 0;
    out.values.resize(n);
    out.vectors.resize(static_cast<std::size_t>(n) * count);
    std::vector<int> support(2 * static_cast<std::size_t>(count));
    const auto call = [&](double* work, int* work_size, int* integers, int* sizes) {
        lapack().syevr(&job, &range, &triangle, &n, A.data(), &n, &none, &none, &first, &n, &none,
                       &found, out.values.data(), out.vectors.data(), &n, support.data(), work,
                       work_size, integers, sizes, &info);
    };
    call(&size, &ask, &integers_size, &ask);
    if (info != 0) return false;
    int work_size = static_cast<int>(size);
    std::vector<double> work(work_size);
    std::vector<int> integers(integers_size);
    call(work.data(), &work_size, integers.data(), &integers_size);
    out.values.resize(count);
    return info == 0 && found == count;
}

bool decompose(int n, int count, std::vector<double>& A, Spectrum& out) {
    return count < n || n > most_whole ? largest(n, count, A, out) : whole(n, A, out);
}

// What is decomposed, which may outlive the call that asked for it.
struct Kept {
    std::vector<double> A;
    Spectrum found;
    bool good = false, done = false;
    std::mutex mutex;
    std::condition_variable ended;
};

// Decompositions that nobody waits for any more, or that are still waited for.
std::atomic<int> aside{0};

// The end of the process takes from LAPACK what such a decomposition works on: by then all is
// written and Python has ended, so that nothing is lost where the rest of the end is left out.
void end_in_order() {
#if defined(__GLIBC__)
    const auto end = [](int status, void*) {
        if (aside.load() == 0) return;
        std::fflush(nullptr);
        _exit(status);
    };
    on_exit(end, nullptr);
#elif defined(__APPLE__)
    std::atexit([] {
        while (aside.load() > 0) std::this_thread::sleep_for(Watch::often);
    });
#endif
}

// LAPACK cannot be stopped: what it was given is left to it, on a thread of its own.
bool decompose_aside(int n, int count, std::vector<double> A, Spectrum& out) {
    const auto own = std::make_shared<Kept>();
    own->A = std::move(A);
    static std::once_flag once;
    std::call_once(once, end_in_order);
    const auto work = [own, n, count]() noexcept {
        bool good = false;
        try {
            good = decompose(n, count, own->A, own->found);
        } catch (...) { // too little memory
        }
        const std::lock_guard<std::mutex> guard(own->mutex);
        own->good = good;
        own->done = true;
        own->ended.notify_all();
        --aside;
    };
    ++aside;
    try {
        std::thread(work).detach();
    } catch (const std::system_error&) {
        --aside;
        return decompose(n, count, own->A, out);
    }
    std::unique_lock<std::mutex> lock(own->mutex);
    while (!own->ended.wait_for(lock, Watch::often, [&] { return own->done; })) {
        lock.unlock();
        Watch::poll();
        lock.lock();
    }
    if (!own->good) return false;
    out = std::move(own->found);
    return true;
}

} // namespace

bool spectrum(int n, int count, std::vector<double> A, Spectrum& out) {
    if (4.0 * n * n * n > operations_at_once) return decompose_aside(n, count, std::move(A), out);
    return decompose(n, count, A, out);
}

} // namespace ranef
