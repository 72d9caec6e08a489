# Run at every build: writes the version header anew when the revision is another one, so that results
# name the code that made them. Needs SOURCE, INPUT, OUTPUT and PROJECT_VERSION.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty=-changed --exclude=*
                OUTPUT_VARIABLE CAJAL_REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT CAJAL_REVISION)
  set(CAJAL_REVISION "no git")
endif()
configure_file(${INPUT} ${OUTPUT})
