// The families by name.
#include "factory.hpp"

#include <map>
#include <stdexcept>

namespace ranef {

namespace {

struct Entry {
    Registration::Maker make;
    int links;
    Zero zero;
};

// Made at its first use, since registrations run in no given order.
std::map<std::string, Entry>& entries() {
    static std::map<std::string, Entry> table;
    return table;
}

} // namespace

Registration::Registration(const char* name, Maker make, int links, Zero zero) {
    entries().insert({name, {make, links, zero}});
}

std::unique_ptr<Family> make_family(const std::string& name, const std::string& link,
                                    bool with_zero, int categories) {
    if (name == "multinomial") {
        if (categories < 2 || with_zero || link != "logit")
            throw std::invalid_argument("the multinomial family has two categories or more, the "
                                        "logit link and no zero inflation");
        return multinomial(categories);
    }
    const auto found = entries().find(name);
    if (found == entries().end()) throw std::invalid_argument("no family '" + name + "'");
    const Entry& entry = found->second;
    const Link parsed = parse_link(link);
    if (!(entry.links & links::of(parsed)))
        throw std::invalid_argument("the family '" + name + "' takes no link '" + link + "'");
    if (with_zero && entry.zero == Zero::never)
        throw std::invalid_argument("the family '" + name + "' takes no zero inflation");
    auto family = entry.make(parsed);
    return with_zero ? zero_inflated(std::move(family)) : std::move(family);
}

} // namespace ranef
