// How a call into the core is stopped: by a signal, or by whoever started the thread it is in.
//
// The thread that makes a call has a Watch while the call runs. At points where everything may
// be dropped it polls: now and then the watch asks outside whether to go on. Threads that
// work for the call follow its watch, and see the answer at their own points. Where nobody
// watches, nothing is polled.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>

namespace ranef {

// A call is to be given up. Leaves the core as a Python exception.
class Stopped : public std::exception {
  public:
    const char* what() const noexcept override { return "the call was stopped"; }
};

class Watch {
  public:
    // stop: set by others, who want calls of this thread given up; or null.
    explicit Watch(const std::atomic<bool>* stop) : stop_(stop) {}
    virtual ~Watch() = default;
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    static constexpr std::chrono::milliseconds often{50};

    // Throws Stopped where the call is to be given up.
    static void poll() {
        if (here().watch) here().watch->look(here().own);
    }

    // The watch of this thread, while the guard lives: its own, or one that it follows.
    class Guard {
      public:
        Guard(Watch* watch, bool own) : before_(here()) { here() = {watch, own}; }
        ~Guard() { here() = before_; }
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;

      private:
        struct Place {
            Watch* watch;
            bool own;
        } before_;
        friend class Watch;
    };

    static Watch* current() { return here().watch; }

  protected:
    // Whether to go on; asked by the thread that made the call only.
    virtual bool go_on() noexcept = 0;

  private:
    // In memory that each thread is given when it starts, where the loader knows of such: to ask
    // for it later can fail, and a thread without it ends the process.
    static Guard::Place& here() {
#if defined(__GLIBC__)
        __attribute__((tls_model("initial-exec")))
#endif
        static thread_local Guard::Place place{nullptr, false};
        return place;
    }

    void look(bool own) {
        if (!stopped_ && stop_ && *stop_) stopped_ = true;
        if (own && !stopped_) {
            const auto now = std::chrono::steady_clock::now();
            if (now - asked_ > often) {
                asked_ = now;
                if (!go_on()) stopped_ = true;
            }
        }
        if (stopped_) throw Stopped();
    }

    const std::atomic<bool>* stop_;
    std::atomic<bool> stopped_{false};
    std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

} // namespace ranef
