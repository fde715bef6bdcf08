// Forced into ggml-vulkan.cpp by the build. It names a struct of VK_EXT_layer_settings that the headers of Debian 12
// and others do not have yet (they came with 1.3.272); whether a driver knows the extension is asked at run time.
#pragma once

#include <vulkan/vulkan_core.h>

#if VK_HEADER_VERSION < 272

#include <cstdint>
#include <vector>

namespace vk {

enum class LayerSettingTypeEXT : int32_t { eBool32 = 0 };

struct LayerSettingEXT {
    const char * layer;
    const char * setting;
    LayerSettingTypeEXT type;
    uint32_t n_values;
    const void * values;
};

// The layout is the extension's: the loader walks the chain that this is in.
struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & all)
        : n_settings(static_cast<uint32_t>(all.size())), settings(all.data()) {}

    VkStructureType type = static_cast<VkStructureType>(1000496000);
    const void * next = nullptr;
    uint32_t n_settings;
    const LayerSettingEXT * settings;
};

}  // namespace vk

#endif
