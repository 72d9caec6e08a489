#include "cajal/core/options.h"

#include <gtest/gtest.h>

namespace {

enum class Colour { red, blue };

struct Inner {
  std::vector<int> sizes = {1, 2};
};
CAJAL_OPTIONS(Inner, sizes)

struct Outer {
  int64_t width = 4;
  double rate = 0.5;
  bool on = false;
  Colour colour = Colour::red;
  Inner inner;
  std::optional<std::string> name;
};

}  // namespace

CAJAL_ENUM(Colour, {Colour::red, "red"}, {Colour::blue, "blue"})

namespace {

CAJAL_OPTIONS(Outer, width, rate, on, colour, inner, name)

std::string message(const char* json) {
  try {
    cajal::options::parse<Outer>(cajal::parse_json(json, "test"));
  } catch (const cajal::Error& error) {
    return error.what();
  }
  return "";
}

TEST(Options, SurviveARoundTripThroughJson) {
  Outer outer{
      .width = 7, .rate = 2, .on = true, .colour = Colour::blue, .inner = {{3}}, .name = "x"};
  const auto json = cajal::options::write(outer);
  EXPECT_EQ(json.dump(),
            R"({"width":7,"rate":2.0,"on":true,"colour":"blue","inner":{"sizes":[3]},"name":"x"})");
  EXPECT_EQ(cajal::options::write(cajal::options::parse<Outer>(json)), json);
}

TEST(Options, KeepDefaultsOfKeysLeftOut) {
  EXPECT_EQ(cajal::options::parse<Outer>(cajal::Json::object()).inner.sizes,
            (std::vector<int>{1, 2}));
}

TEST(Options, RefuseUnknownKeysAndSayWhichWasMeant) {
  EXPECT_EQ(message(R"({"widht":1})"),
            "options: unknown option 'widht'; did you mean 'width'?; options are width, rate, on, "
            "colour, inner, name");
}

TEST(Options, RefuseSilentConversionsNamingTheField) {
  EXPECT_EQ(message(R"({"width":1.5})"), "options.width: expected an integer, got 1.5");
  EXPECT_EQ(message(R"({"on":0})"), "options.on: expected true or false, got 0");
  EXPECT_EQ(message(R"({"inner":{"sizes":[1,"a"]}})"),
            "options.inner.sizes[1]: expected an integer, got \"a\"");
  EXPECT_EQ(message(R"({"colour":"green"})"), "options.colour: 'green' is not one of red, blue");
}

TEST(Json, RefusesWhatHidesTrouble) {
  EXPECT_EQ(message(R"({"width":1,"width":2})"), "test: key 'width' appears twice");
  EXPECT_NE(message(std::string(100, '[').c_str()).find("nested deeper than 64"),
            std::string::npos);
  EXPECT_NE(message("{\"name\":\"\xff\"}").find("ill-formed UTF-8"), std::string::npos);
}

}  // namespace
