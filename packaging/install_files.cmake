# Run by `cmake --install`: units name the programs where this prefix puts them. Configuration lies in /etc for the usual
# prefixes, as the programs look for it there; what is there already stays as it is.
set(BINDIR ${CMAKE_INSTALL_PREFIX}/bin)
set(SBINDIR ${CMAKE_INSTALL_PREFIX}/sbin)
set(etc ${CMAKE_INSTALL_PREFIX}/etc)
if(CMAKE_INSTALL_PREFIX MATCHES "^/usr(/local)?/?$")
  set(etc /etc)
endif()

# The same program by the name under which it ends as the old tool does.
file(CREATE_LINK rnbd $ENV{DESTDIR}${BINDIR}/rnbd-compat SYMBOLIC)

file(GLOB units ${packaging}/systemd/*.service ${packaging}/systemd/*.socket)
foreach(unit ${units})
  get_filename_component(name ${unit} NAME)
  configure_file(${unit} ${made}/${name} @ONLY)
  file(INSTALL ${made}/${name} DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
endforeach()
file(INSTALL ${packaging}/systemd/rnbd.sysusers.conf DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/sysusers.d RENAME rnbd.conf)
file(INSTALL ${packaging}/systemd/rnbd.tmpfiles.conf DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/tmpfiles.d RENAME rnbd.conf)
file(INSTALL ${packaging}/udev/61-rnbd.rules DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/udev/rules.d)

function(install_once file place name)
  if(NOT EXISTS "$ENV{DESTDIR}${place}/${name}")
    file(INSTALL ${packaging}/etc/${file} DESTINATION ${place} RENAME ${name})
  endif()
endfunction()
install_once(rnbd.toml ${etc}/rnbd rnbd.toml)
install_once(rnbdtab ${etc}/rnbd rnbdtab)
install_once(rnbd.default ${etc}/default rnbd)
