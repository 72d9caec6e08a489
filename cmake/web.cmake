# The pages of `cajal serve`: with npm, bundled with their chart parts; else as they are in the source.
file(GLOB web_sources CONFIGURE_DEPENDS apps/web/src/* apps/web/*.js* apps/web/*.mjs)
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/web/index.html
  COMMAND ${PROJECT_SOURCE_DIR}/tools/build_web ${PROJECT_BINARY_DIR}
  DEPENDS ${web_sources} ${PROJECT_SOURCE_DIR}/tools/build_web
  COMMENT "Pages of cajal serve" VERBATIM)
add_custom_target(cajal_web ALL DEPENDS ${PROJECT_BINARY_DIR}/web/index.html)
