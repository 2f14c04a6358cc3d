# The registry of model names becomes a part of the library: it is found from any directory and
# after any installation. Sets HEDDLE_REGISTRY_SOURCE.
set(registry_json ${PROJECT_SOURCE_DIR}/configs/models/registry.json)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${registry_json})
file(READ ${registry_json} HEDDLE_REGISTRY_JSON)
file(RELATIVE_PATH HEDDLE_DATA_FROM_BIN ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_DATADIR}/heddle)
set(HEDDLE_REGISTRY_SOURCE ${CMAKE_CURRENT_BINARY_DIR}/registry_data.cpp)
configure_file(${CMAKE_CURRENT_LIST_DIR}/registry_data.cpp.in ${HEDDLE_REGISTRY_SOURCE} @ONLY)
