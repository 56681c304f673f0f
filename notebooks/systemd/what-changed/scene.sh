# The service that the cells of what-changed.ipynb deploy, and what is changed after it.
# shellcheck shell=bash

shop=what-changed-shop
variables=/etc/default/$shop

package() { # VERSION: makes it, and installs it
    local tree=$TMPDIR/tool-$1
    mkdir --parents "$tree/DEBIAN" "$tree/usr/share/what-changed-tool"
    echo "$1" >"$tree/usr/share/what-changed-tool/version"
    printf '%s\n' "Package: what-changed-tool" "Version: $1" "Architecture: all" "Maintainer: nobody <nobody@localhost>" \
        "Description: what is upgraded" >"$tree/DEBIAN/control"
    dpkg-deb --build --root-owner-group "$tree" "$tree.deb"
    dpkg --install "$tree.deb"
}

deploy() {
    package 1.0
    install /usr/bin/sleep "/usr/local/bin/$shop"
    install --directory "/etc/$shop"
    touch "/etc/$shop/old.conf"
    echo "LEVEL=info" >"$variables"
    printf '%s\n' "[Service]" "Type=exec" "EnvironmentFile=$variables" "ExecStart=/usr/local/bin/$shop infinity" \
        >"/etc/systemd/system/$shop.service"
    systemctl daemon-reload
    systemctl start "$shop.service"
}

tamper() {
    package 1.1 >"$TMPDIR/package"
    mkdir "/etc/systemd/system/$shop.service.d"
    printf '%s\n' "[Service]" "MemoryMax=64M" >"/etc/systemd/system/$shop.service.d/limit.conf"
    echo "LEVEL=debug" >"$TMPDIR/variables"
    touch --date=2025-01-01 "$TMPDIR/variables"
    cp --preserve=timestamps "$TMPDIR/variables" "$variables"
    install /usr/bin/sleep "/usr/local/bin/$shop.new"
    mv "/usr/local/bin/$shop.new" "/usr/local/bin/$shop"
    rm "/etc/$shop/old.conf"
    sudo --user=nobody /usr/bin/true
    systemctl restart systemd-timesyncd.service
    sysctl --values vm.swappiness >/run/$shop
    sysctl --quiet --write vm.swappiness=11
    journalctl --sync
}

not_in_force() { # what the program says of the service
    python3 "$KB_HERE/what-changed/what_changed.py" now | sed '1,/^not in force:/d' | grep "^$shop" || echo "(nothing)"
}

away() {
    systemctl stop "$shop.service"
    rm --recursive --force "/etc/systemd/system/$shop.service" "/etc/systemd/system/$shop.service.d" \
        "/usr/local/bin/$shop" "/etc/${shop:?}" "$variables"
    systemctl daemon-reload
    dpkg --purge what-changed-tool
    sysctl --quiet --write vm.swappiness="$(</run/$shop)"
    rm /run/$shop
}
