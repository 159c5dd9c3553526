// Long calls from Python: without the interpreter's lock, and stopped by Ctrl-C.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "watch.hpp"

namespace nb = nanobind;

namespace ranef {

// Asks that calls made in some threads be given up: whoever starts threads has one, and lets
// each enter it.
class Stop {
  public:
    Stop() : asked_(std::make_shared<std::atomic<bool>>(false)) {}
    void set() { *asked_ = true; }
    void enter() { change(asked_); }
    void leave() { change(nullptr); }
    // That of this thread, or null.
    static std::shared_ptr<std::atomic<bool>> here() {
        const std::lock_guard<std::mutex> guard(table().mutex);
        const auto found = table().by_thread.find(std::this_thread::get_id());
        return found == table().by_thread.end() ? nullptr : found->second;
    }

  private:
    struct Table {
        std::mutex mutex;
        std::map<std::thread::id, std::shared_ptr<std::atomic<bool>>> by_thread;
    };
    static Table& table() {
        static Table& table = *new Table; // never destroyed: threads may outlive the module
        return table;
    }
    static void change(std::shared_ptr<std::atomic<bool>> asked) {
        const std::lock_guard<std::mutex> guard(table().mutex);
        if (asked)
            table().by_thread[std::this_thread::get_id()] = std::move(asked);
        else
            table().by_thread.erase(std::this_thread::get_id());
    }

    std::shared_ptr<std::atomic<bool>> asked_;
};

// A Python exception that waits until the core has come back; with the interpreter's lock.
class Pending {
  public:
    void hold(nb::python_error&& error) {
        error_ = std::make_unique<nb::python_error>(std::move(error));
    }
    void rethrow() {
        if (!error_) return;
        error_->restore();
        error_.reset();
        throw nb::python_error();
    }

  private:
    std::unique_ptr<nb::python_error> error_;
};

// The watch of a call from Python. Signals reach Python's main thread only: elsewhere Python
// itself answers that there are none.
class Caller final : public Watch {
  public:
    // With the interpreter's lock.
    Caller() : Caller(Stop::here()) {}

    // With the lock again: the exception of a signal's handler, if one asked for the end.
    void rethrow() { pending_.rethrow(); }

  private:
    explicit Caller(std::shared_ptr<std::atomic<bool>> stop)
        : Watch(stop.get()), kept_(std::move(stop)) {}

    bool go_on() noexcept override {
        const nb::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() == 0) return true;
        try {
            throw nb::python_error();
        } catch (nb::python_error& e) {
            pending_.hold(std::move(e));
        }
        return false;
    }

    std::shared_ptr<std::atomic<bool>> kept_;
    Pending pending_;
};

// Does the work without the interpreter's lock. Everything it throws comes out as an
// exception of Python, memory that cannot be had as MemoryError.
template <class Work>
void unlocked(Work&& work) {
    Caller caller;
    try {
        const nb::gil_scoped_release release;
        const Watch::Guard guard(&caller, true);
        Watch::poll(); // a call may be too short to ask on its way
        work();
    } catch (const Stopped&) {
        caller.rethrow();
        throw;
    }
}

// One call after the other: of a thing that several threads may ask, but which changes as
// it is asked. To be waited for without the interpreter's lock.
class Turns {
  public:
    class Turn {
      public:
        explicit Turn(Turns& turns) : turns_(turns) {
            std::unique_lock<std::mutex> lock(turns_.mutex_);
            const auto me = std::this_thread::get_id();
            if (turns_.taken_ && turns_.by_ == me)
                throw std::logic_error("this problem is at work for the caller, and cannot be "
                                       "asked from its own progress");
            while (turns_.taken_) {
                turns_.free_.wait_for(lock, Watch::often);
                lock.unlock();
                Watch::poll();
                lock.lock();
            }
            turns_.taken_ = true;
            turns_.by_ = me;
        }
        ~Turn() {
            const std::lock_guard<std::mutex> guard(turns_.mutex_);
            turns_.taken_ = false;
            turns_.free_.notify_one();
        }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

      private:
        Turns& turns_;
    };

  private:
    std::mutex mutex_;
    std::condition_variable free_;
    bool taken_ = false;
    std::thread::id by_;
};

} // namespace ranef
